//! Exact injection: a client of QEMU's gdb stub, which stops the guest at an instruction, looks at it and goes on.
//!
//! Only what the tests need of the GDB remote serial protocol: hardware breakpoints, watchpoints, single steps,
//! registers, memory, and QEMU's own commands. CPUs are numbered from 0, as the guest numbers them; one of them can run
//! while the others stand still ([`GdbStub::resume_only`]).

mod machine;
mod registers;
mod running;
mod symbols;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use registers::Registers;
pub use running::Stop;
pub use symbols::{function, symbol};

/// What the stub may take for an answer to anything but "continue".
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to the stub. The guest is stopped, or runs after [`GdbStub::resume`].
#[derive(Debug)]
pub struct GdbStub {
    stream: TcpStream,
    received: Vec<u8>,
    stop: Option<Stop>,
}

/// A TCP port that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl GdbStub {
    /// Connects to the stub of a QEMU that was started with `-gdb`.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("QEMU's gdb stub")?;
        stream.set_nodelay(true)?;
        let mut stub = Self { stream, received: Vec::new(), stop: None };
        // QEMU lets single registers be written only by who has asked for their description.
        stub.command("qXfer:features:read:target.xml:0,fff")?;
        Ok(stub)
    }

    fn send(&mut self, payload: &str) -> Result<()> {
        let sum = payload.bytes().fold(0_u8, u8::wrapping_add);
        Ok(write!(self.stream, "${payload}#{sum:02x}")?)
    }

    /// The next packet; `None` if none comes in time.
    fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(packet) = self.take_packet() {
                self.stream.write_all(b"+")?;
                return Ok(Some(packet));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("QEMU closed its gdb stub"),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes `$text#nn` out of what was received.
    fn take_packet(&mut self) -> Option<String> {
        let start = self.received.iter().position(|&byte| byte == b'$')?;
        let length = self.received[start..].iter().position(|&byte| byte == b'#')?;
        let end = start + length;
        if self.received.len() < end + 3 {
            return None;
        }
        let text = String::from_utf8_lossy(&self.received[start + 1..end]).into_owned();
        self.received.drain(..end + 3);
        Some(text)
    }

    fn command(&mut self, payload: &str) -> Result<String> {
        self.send(payload)?;
        self.receive(ANSWER)?.with_context(|| format!("no answer to {payload}"))
    }

    fn demand_ok(&mut self, payload: &str) -> Result<()> {
        let answer = self.command(payload)?;
        ensure!(answer == "OK", "{payload} was answered {answer}");
        Ok(())
    }
}
