//! A running QEMU, its end, and what the end means.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use wait_timeout::ChildExt;

use super::arguments::{BootFiles, compose};
use super::qmp::Qmp;
use super::{Firmware, Loader, Machine, Medium, PROGRAM, Serial};
use crate::limine::Limine;
use crate::system::System;
use crate::workspace::Workspace;
use crate::{iso, tool};

/// QEMU connects to our socket before it sets the machine up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a guest's end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It wrote 0x10 to the debug-exit port.
    Pass,
    /// It wrote 0x11 to the debug-exit port.
    Fail,
    /// It wrote 0x12 to the debug-exit port: the kernel panicked.
    Panic,
    /// It powered off.
    PowerOff,
    /// It reset, or took a triple fault, on a machine that does not reboot.
    Reset,
    /// QEMU was ended from outside: its monitor, its control socket, a signal.
    Closed,
    /// QEMU ended with another exit code, for instance 1 for arguments that it does not take.
    Other(Option<i32>),
}

/// A guest's end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What it means.
    pub verdict: Verdict,
    /// QEMU's exit status.
    pub status: ExitStatus,
    /// What QEMU wrote to standard error, unless that went to the terminal.
    pub stderr: String,
}

/// A running machine. Dropping it kills QEMU and removes its files.
#[derive(Debug)]
pub struct Guest {
    child: KilledOnDrop,
    qmp: Qmp,
    directory: TempDir,
}

impl Machine {
    /// Boots `system` on this machine.
    ///
    /// # Errors
    /// When the loader's files (Limine, OVMF, the ISO) cannot be had, or QEMU does not start; the
    /// message has what QEMU said.
    pub fn spawn(&self, workspace: &Workspace, system: &System) -> Result<Guest> {
        let directory = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let boot = self.boot_files(workspace, system, directory.path())?;
        let socket = directory.path().join("qmp");
        let listener = UnixListener::bind(&socket).context("cannot make QEMU's control socket")?;
        let mut qemu = Command::new(PROGRAM);
        qemu.args(compose(self, &boot, &socket));
        let shared =
            [&self.serial1, &self.serial2].iter().any(|s| matches!(s, Serial::Stdio | Serial::Terminal));
        if !shared {
            qemu.stdin(Stdio::null()).stdout(Stdio::null());
            qemu.stderr(std::fs::File::create(directory.path().join("stderr"))?);
        }
        let mut child = KilledOnDrop(qemu.spawn().with_context(|| tool::cannot_start(PROGRAM))?);
        let qmp = connect(&listener, &mut child.0, directory.path())?;
        Ok(Guest { child, qmp, directory })
    }

    fn boot_files(&self, workspace: &Workspace, system: &System, dir: &Path) -> Result<BootFiles> {
        if !self.loader.needs_iso() {
            let (loader, bundle) = (system.loader().to_owned(), system.bundle().to_owned());
            return Ok(BootFiles::Direct { loader, bundle });
        }
        let limine = Limine::find()?;
        let file = dir.join("boot.iso");
        iso::write(system, &limine, &self.cmdline, &file)?;
        let uefi = self.loader == Loader::LimineUefi;
        if self.medium == Medium::UsbStick && !uefi {
            limine.bios_install(workspace, &file)?;
        }
        let firmware = uefi.then(|| Firmware::prepare(dir)).transpose()?;
        Ok(BootFiles::Iso { iso: file, firmware })
    }
}

/// Accepts QEMU's connection, or says why none comes.
fn connect(listener: &UnixListener, child: &mut Child, dir: &Path) -> Result<Qmp> {
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Qmp::start(stream).map_err(|error| not_started(error, child, dir)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("QEMU's control socket"),
        }
        if let Some(status) = child.wait_timeout(Duration::from_millis(5))? {
            bail!("QEMU did not start: {status}{}", said(dir));
        }
        if begun.elapsed() > START_LIMIT {
            bail!("QEMU did not start within {} s{}", START_LIMIT.as_secs(), said(dir));
        }
    }
}

/// QEMU connects before it looks at most of its arguments, so it may still end over one of them.
fn not_started(error: anyhow::Error, child: &mut Child, dir: &Path) -> anyhow::Error {
    match child.wait_timeout(Duration::from_secs(1)) {
        Ok(Some(status)) => anyhow::anyhow!("QEMU did not start: {status}{}", said(dir)),
        _ => error,
    }
}

/// What QEMU wrote to standard error, on a line of its own.
fn said(dir: &Path) -> String {
    match std::fs::read_to_string(dir.join("stderr")) {
        Ok(text) if !text.trim().is_empty() => format!("\n{}", text.trim_end()),
        _ => String::new(),
    }
}

impl Guest {
    /// Waits until QEMU ends, at most `limit` long; `None` when it still runs then.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Ending>> {
        let status = self.child.0.wait_timeout(limit).context("cannot wait for QEMU")?;
        Ok(status.map(|status| self.ending(status)))
    }

    /// Waits until QEMU ends.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn wait_forever(&mut self) -> Result<Ending> {
        let status = self.child.0.wait().context("cannot wait for QEMU")?;
        Ok(self.ending(status))
    }

    /// Kills QEMU now.
    pub fn kill(mut self) {
        self.child.end();
    }

    /// QEMU's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// A directory of this run's own, removed with the guest.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a QMP command; gives what it returned.
    ///
    /// # Errors
    /// When QEMU refuses it, has ended, or does not answer for 30 s.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.command(command, arguments)
    }

    /// Runs a line of QEMU's human monitor, such as `nmi`; gives what it printed.
    ///
    /// # Errors
    /// As [`Guest::qmp`]. The monitor reports its own errors in the text.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let said = self.qmp("human-monitor-command", json!({"command-line": line}))?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    fn ending(&mut self, status: ExitStatus) -> Ending {
        let reason = self.qmp.shutdown_reason();
        let verdict = Verdict::new(status.code(), reason.as_deref());
        Ending { verdict, status, stderr: said(self.directory.path()).trim_start().to_owned() }
    }
}

impl Verdict {
    /// `isa-debug-exit` ends QEMU with twice the byte that the guest wrote, plus one.
    fn new(code: Option<i32>, shutdown_reason: Option<&str>) -> Self {
        match (code, shutdown_reason) {
            (Some(0x21), _) => Self::Pass,
            (Some(0x23), _) => Self::Fail,
            (Some(0x25), _) => Self::Panic,
            (Some(0), Some("guest-shutdown")) => Self::PowerOff,
            (Some(0), Some("guest-reset")) => Self::Reset,
            (Some(0), _) => Self::Closed,
            (other, _) => Self::Other(other),
        }
    }
}

/// A child process that does not outlive this value.
#[derive(Debug)]
struct KilledOnDrop(Child);

impl KilledOnDrop {
    fn end(&mut self) {
        // Both fail only when the child has ended and been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_as_the_guest_meant_them() {
        assert_eq!(Verdict::new(Some(33), None), Verdict::Pass);
        assert_eq!(Verdict::new(Some(35), None), Verdict::Fail);
        assert_eq!(Verdict::new(Some(37), None), Verdict::Panic);
        assert_eq!(Verdict::new(Some(0), Some("guest-shutdown")), Verdict::PowerOff);
        assert_eq!(Verdict::new(Some(0), Some("guest-reset")), Verdict::Reset);
        assert_eq!(Verdict::new(Some(0), Some("host-signal")), Verdict::Closed);
        assert_eq!(Verdict::new(Some(1), None), Verdict::Other(Some(1)));
        assert_eq!(Verdict::new(None, None), Verdict::Other(None));
    }
}
