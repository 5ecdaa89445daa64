//! Exact injection: a client of QEMU's gdb stub, which stops the guest at an instruction, looks at it and goes on.
//!
//! Only what the tests need of the GDB remote serial protocol: hardware breakpoints, watchpoints, single steps,
//! registers, memory, and QEMU's own commands. CPUs are numbered from 0, as the guest numbers them; one of them can run
//! while the others stand still ([`GdbStub::resume_only`]).

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;

/// What the stub may take for an answer to anything but "continue".
const ANSWER: Duration = Duration::from_secs(10);
/// Number of RIP among the registers (GDB's `i386:x86-64` description).
const RIP: usize = 16;
/// Number of RSP.
const RSP: usize = 7;
/// Number of EFLAGS.
const FLAGS: usize = 17;

/// A connection to the stub. The guest is stopped, or runs after [`GdbStub::resume`].
#[derive(Debug)]
pub struct GdbStub {
    stream: TcpStream,
    received: Vec<u8>,
    stop: Option<Stop>,
}

/// Why the guest stopped, as the stub told it last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The CPU that stopped it.
    pub cpu: usize,
    /// The address that was accessed, if a watchpoint stopped it.
    pub watched: Option<u64>,
}

impl Stop {
    /// Reads `T05thread:p01.02;watch:f000;` or the like; `None` for another answer.
    fn parse(packet: &str) -> Option<Self> {
        let mut stop = Self { cpu: 0, watched: None };
        for part in packet.strip_prefix('T')?.get(2..)?.split(';') {
            match part.split_once(':') {
                Some(("thread", id)) => {
                    let number = id.rsplit('.').next()?;
                    stop.cpu = usize::from_str_radix(number, 16).ok()?.checked_sub(1)?;
                }
                Some(("watch" | "rwatch" | "awatch", address)) => {
                    stop.watched = Some(u64::from_str_radix(address, 16).ok()?);
                }
                _ => {}
            }
        }
        Some(stop)
    }
}

/// What the stub calls "all registers", bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers(String);

impl Registers {
    /// The number of RIP.
    pub const RIP: usize = RIP;

    /// The same with another value in one of them.
    #[must_use]
    pub fn with(&self, number: usize, value: u64) -> Self {
        self.replaced(number, &format!("{:016x}", value.swap_bytes()))
    }

    /// The same with other flags.
    #[must_use]
    pub fn with_flags(&self, flags: u32) -> Self {
        self.replaced(FLAGS, &format!("{:08x}", flags.swap_bytes()))
    }

    fn replaced(&self, number: usize, digits: &str) -> Self {
        let mut all = self.0.clone();
        all.replace_range(number * 16..number * 16 + digits.len(), digits);
        Self(all)
    }

    fn word(&self, number: usize) -> u64 {
        u64::from_str_radix(&self.0[number * 16..number * 16 + 16], 16).map_or(0, u64::swap_bytes)
    }

    /// A general register: 0 RAX, 1 RBX, 2 RCX, 3 RDX, 4 RSI, 5 RDI, 6 RBP, 7 RSP, 8 R8, and so on.
    #[must_use]
    pub fn general(&self, number: usize) -> u64 {
        self.word(number)
    }

    /// RIP.
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.word(RIP)
    }

    /// RSP.
    #[must_use]
    pub fn rsp(&self) -> u64 {
        self.word(RSP)
    }

    /// EFLAGS.
    #[must_use]
    pub fn flags(&self) -> u32 {
        u32::from_str_radix(&self.0[FLAGS * 16..FLAGS * 16 + 8], 16).map_or(0, u32::swap_bytes)
    }
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

    /// Lets all CPUs run.
    ///
    /// # Errors
    /// When the connection is lost, as for all that follow.
    pub fn resume(&mut self) -> Result<()> {
        self.send("c")
    }

    /// Lets one CPU run while all others stand still.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn resume_only(&mut self, cpu: usize) -> Result<()> {
        self.send(&format!("vCont;c:{:x}", cpu + 1))
    }

    /// Lets one CPU execute one instruction, interrupts held back, while all others stand still. Gives whether it did
    /// within `limit`; a CPU that is halted does not. The guest is stopped in any case.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn step_only(&mut self, cpu: usize, limit: Duration) -> Result<bool> {
        self.send(&format!("vCont;s:{:x}", cpu + 1))?;
        let stepped = self.stopped_within(limit)?;
        if !stepped {
            self.interrupt()?;
        }
        Ok(stepped)
    }

    /// Registers and memory are those of this CPU until the guest runs again.
    ///
    /// # Errors
    /// When there is no such CPU.
    pub fn select(&mut self, cpu: usize) -> Result<()> {
        self.demand_ok(&format!("Hg{:x}", cpu + 1))
    }

    /// Why the guest stopped last; `None` if the stub did not say.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Stops the guest at each access of any CPU to eight bytes at a virtual address, after it was made.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_watchpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("Z4,{address:x},8"))
    }

    /// Removes such a watchpoint.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn clear_watchpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("z4,{address:x},8"))
    }

    /// Waits until the guest stops; whether it did in time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn stopped_within(&mut self, limit: Duration) -> Result<bool> {
        let packet = self.receive(limit)?;
        self.stop = packet.as_deref().and_then(Stop::parse);
        Ok(packet.is_some())
    }

    /// Stops all CPUs.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn interrupt(&mut self) -> Result<()> {
        self.stream.write_all(&[3])?;
        ensure!(self.stopped_within(ANSWER)?, "the guest does not stop");
        Ok(())
    }

    /// Sets a hardware breakpoint while the guest is stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_breakpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("Z1,{address:x},1"))
    }

    /// Removes a hardware breakpoint while the guest is stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn clear_breakpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("z1,{address:x},1"))
    }

    /// Runs the stopped guest until an instruction is about to be executed. Gives whether it was in time; the guest is
    /// stopped in any case. If the CPU that stopped stands there it goes on until it comes there once more.
    ///
    /// # Errors
    /// When it stops elsewhere.
    pub fn run_to(&mut self, address: u64, limit: Duration) -> Result<bool> {
        if self.rip()? == address {
            self.step()?;
        }
        self.set_breakpoint(address)?;
        self.resume()?;
        let arrived = self.stopped_within(limit)?;
        if !arrived {
            self.interrupt()?;
        }
        self.clear_breakpoint(address)?;
        let rip = self.rip()?;
        ensure!(!arrived || rip == address, "stopped at {rip:#x} instead of {address:#x}");
        Ok(arrived)
    }

    /// Executes one instruction of the CPU that stopped; interrupts are held back meanwhile.
    ///
    /// # Errors
    /// When the guest does not stop behind it.
    pub fn step(&mut self) -> Result<()> {
        self.command("s").map(drop)
    }

    /// The registers in hexadecimal: 17 of 8 bytes, RIP the last, then EFLAGS of 4.
    fn registers(&mut self) -> Result<String> {
        let all = self.command("g")?;
        ensure!(all.is_ascii() && all.len() > 18 * 16, "not registers: {all}");
        Ok(all)
    }

    fn register(&mut self, number: usize) -> Result<u64> {
        let all = self.registers()?;
        Ok(u64::from_str_radix(&all[number * 16..number * 16 + 16], 16)?.swap_bytes())
    }

    /// Writes one register, alone: after a write of all of them QEMU executes up to a branch before it looks for what
    /// is pending.
    fn set_register(&mut self, number: usize, digits: &str) -> Result<()> {
        self.demand_ok(&format!("P{number:x}={digits}"))
    }

    /// All registers that the stub knows, but PKRS, which it does not.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn all_registers(&mut self) -> Result<Registers> {
        self.registers().map(Registers)
    }

    /// Puts all registers back.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_all_registers(&mut self, registers: &Registers) -> Result<()> {
        self.demand_ok(&format!("G{}", registers.0))
    }

    /// RIP of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn rip(&mut self) -> Result<u64> {
        self.register(RIP)
    }

    /// A general register of the selected CPU: 0 RAX, 1 RBX, 2 RCX, 3 RDX, 4 RSI, 5 RDI, and so on.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn general(&mut self, number: usize) -> Result<u64> {
        ensure!(number < RIP, "no general register has number {number}");
        self.register(number)
    }

    /// RSP of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn rsp(&mut self) -> Result<u64> {
        self.register(RSP)
    }

    /// Lets the CPU that stopped go on elsewhere.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_rip(&mut self, address: u64) -> Result<()> {
        self.set_register(RIP, &format!("{:016x}", address.swap_bytes()))
    }

    /// Sets a general register of the CPU that stopped: 0 RAX, 1 RBX, 2 RCX, 3 RDX, and so on.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_general(&mut self, number: usize, value: u64) -> Result<()> {
        ensure!(number < RIP, "no general register has number {number}");
        self.set_register(number, &format!("{:016x}", value.swap_bytes()))
    }

    /// Sets the flags of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_flags(&mut self, flags: u32) -> Result<()> {
        self.set_register(FLAGS, &format!("{:08x}", flags.swap_bytes()))
    }

    /// Goes on from here, without a step first, until an instruction is about to be executed: what is pending is taken
    /// at once. Gives whether it was in time; the guest is stopped in any case.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn go_to(&mut self, addresses: &[u64], limit: Duration) -> Result<bool> {
        for &address in addresses {
            self.set_breakpoint(address)?;
        }
        self.resume()?;
        let arrived = self.stopped_within(limit)?;
        if !arrived {
            self.interrupt()?;
        }
        for &address in addresses {
            self.clear_breakpoint(address)?;
        }
        Ok(arrived)
    }

    /// Reads bytes at a virtual address of the CPU that stopped, whatever its keys say.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn read(&mut self, address: u64, count: usize) -> Result<Vec<u8>> {
        let digits = self.command(&format!("m{address:x},{count:x}"))?;
        let pairs = digits.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
        bytes.collect::<Result<_, _>>().with_context(|| format!("memory at {address:#x}: {digits}"))
    }

    /// Keeps the stopped machine under a name; it needs a drive that holds snapshots.
    ///
    /// # Errors
    /// When QEMU says that it cannot.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.quiet(&format!("savevm {name}"))
    }

    /// Makes the machine what it was when it was saved under a name; it stays stopped.
    ///
    /// # Errors
    /// When QEMU says that it cannot.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.quiet(&format!("loadvm {name}"))
    }

    /// A command that says nothing unless it fails.
    fn quiet(&mut self, line: &str) -> Result<()> {
        let said = self.monitor(line)?;
        ensure!(said.trim().is_empty(), "`{line}`: {said}");
        Ok(())
    }

    /// Reads a word at a virtual address of the CPU that stopped, whatever its keys say.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn read_word(&mut self, address: u64) -> Result<u64> {
        let digits = self.command(&format!("m{address:x},8"))?;
        Ok(u64::from_str_radix(&digits, 16).with_context(|| format!("memory at {address:#x}"))?.swap_bytes())
    }

    /// Writes bytes at a virtual address of the CPU that stopped, whatever its rights are.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.demand_ok(&format!("M{address:x},{:x}:{digits}", bytes.len()))
    }

    /// Runs a command of QEMU's monitor, `nmi` for instance, and gives what it says.
    ///
    /// # Errors
    /// When the stub does not answer.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let digits: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut said = self.command(&format!("qRcmd,{digits}"))?;
        let mut text = Vec::new();
        while said != "OK" {
            ensure!(!said.starts_with('E'), "QEMU refuses `{line}`: {said}");
            let digits = said.strip_prefix('O').unwrap_or(&said).as_bytes();
            let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
            text.extend(pairs.collect::<Result<Vec<u8>, _>>().with_context(|| said.clone())?);
            said = self.receive(ANSWER)?.with_context(|| format!("no end of the answer to `{line}`"))?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The value of a symbol of an ELF file that is not mangled.
///
/// # Errors
/// When there is none.
pub fn symbol(file: &Path, name: &str) -> Result<u64> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let parsed = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = parsed.symbol_table()?.context("no symbols")?;
    let found =
        symbols.iter().find(|symbol| names.get(symbol.st_name as usize).is_ok_and(|found| found == name));
    found.map(|symbol| symbol.st_value).with_context(|| format!("no symbol {name} in {}", file.display()))
}

/// The address of the function of an ELF file whose symbol has a path that ends like this, such as `exit::trap_exit`.
///
/// # Errors
/// When there is not exactly one.
pub fn function(file: &Path, path: &str) -> Result<u64> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let parsed = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = parsed.symbol_table()?.context("no symbols")?;
    // Mangled, each part of a path is preceded by its length.
    let mangled: String = path.split("::").map(|part| format!("{}{part}", part.len())).collect();
    let found: Vec<u64> = symbols
        .iter()
        .filter(|symbol| names.get(symbol.st_name as usize).is_ok_and(|name| name.contains(&mangled)))
        .map(|symbol| symbol.st_value)
        .collect();
    match found[..] {
        [address] => Ok(address),
        _ => bail!("{} symbols like {path} in {}", found.len(), file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_read() {
        let stop = |cpu, watched| Some(Stop { cpu, watched });
        assert_eq!(Stop::parse("T05thread:p01.02;"), stop(1, None));
        assert_eq!(Stop::parse("T05thread:0a;"), stop(9, None));
        assert_eq!(
            Stop::parse("T05thread:p01.01;awatch:ffffd00000000008;"),
            stop(0, Some(0xffff_d000_0000_0008))
        );
        assert_eq!(Stop::parse("OK"), None);
    }
}
