//! QEMU's control socket: commands, and why the machine stopped.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A command takes QEMU milliseconds; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client's end of the socket.
#[derive(Debug)]
pub(super) struct Qmp {
    lines: BufReader<UnixStream>,
    shutdown_reason: Option<String>,
}

impl Qmp {
    /// Leaves negotiation mode, before which QEMU takes no command and reports no event.
    pub(super) fn start(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self { lines: BufReader::new(stream), shutdown_reason: None };
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; gives what it returned.
    pub(super) fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": name, "arguments": arguments});
        writeln!(self.lines.get_mut(), "{request}").context("QEMU has closed its control socket")?;
        loop {
            let Some(mut message) = self.next()? else { bail!("QEMU ended during {name}") };
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {name}: {error}");
            }
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Once QEMU has ended: the reason of the last shutdown event, such as `guest-reset`.
    pub(super) fn shutdown_reason(&mut self) -> Option<String> {
        while let Ok(Some(_)) = self.next() {}
        self.shutdown_reason.take()
    }

    fn next(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).context("QEMU does not answer")? == 0 {
            return Ok(None);
        }
        let message: Value = serde_json::from_str(&line).context("QEMU's control socket")?;
        if message["event"] == "SHUTDOWN" {
            self.shutdown_reason = message["data"]["reason"].as_str().map(str::to_owned);
        }
        Ok(Some(message))
    }
}
