//! Guests in QEMU: both serial ports are connected to us before the first instruction runs, so nothing is lost.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use image::qemu::{Accelerator, Guest, Icount, Machine, Serial, Verdict};
use image::system::System;
use image::workspace::Workspace;

use crate::console::Console;
use crate::link::Link;
use crate::plan::{BootFn, End, Process, Running};

/// QEMU connects its serial ports before it says anything else, so this is generous.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// With one CPU, time is instructions: 64 ns each, a slow CPU's, and a busy host makes no limit of the guest's run out. Idle
/// time is the host's, so that the guest can wait for what it is told.
const STEADY: Icount = Icount { shift: 6, sleep: true };

/// What boots `system` on `machine`, with its serial ports connected to the harness.
#[must_use]
pub fn boots(workspace: Arc<Workspace>, system: Arc<System>, machine: Machine) -> BootFn {
    Box::new(move || boot(&workspace, &system, machine.clone()))
}

fn boot(workspace: &Workspace, system: &System, machine: Machine) -> Result<Running> {
    let sockets = tempfile::Builder::new().prefix("portcullis-serial-").tempdir()?;
    let (console, link) = (sockets.path().join("com1"), sockets.path().join("com2"));
    let listeners = (UnixListener::bind(&console)?, UnixListener::bind(&link)?);
    let mut machine = machine.serial1(Serial::Connect(console)).serial2(Serial::Connect(link));
    // A debugger stops the guest where it likes, and counting would make it slower.
    if machine.cpus == 1 && machine.accelerator == Accelerator::Tcg && machine.gdb_port.is_none() {
        machine = machine.icount(STEADY);
    }
    let guest = machine.spawn(workspace, system)?;
    let console = accept(&listeners.0).context("QEMU's first serial port")?;
    let link = accept(&listeners.1).context("QEMU's second serial port")?;
    Ok(Running { link: Link::new(link), console: Console::new(console)?, process: Box::new(Qemu(guest)) })
}

fn accept(listener: &UnixListener) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    while begun.elapsed() < CONNECT_LIMIT {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("was not connected within {} s", CONNECT_LIMIT.as_secs())
}

struct Qemu(Guest);

impl Process for Qemu {
    fn wait(&mut self, limit: Duration) -> Option<End> {
        match self.0.wait(limit) {
            Ok(ending) => ending.map(|ending| meaning(&ending.verdict, &ending.stderr)),
            Err(error) => Some(End::Other(format!("{error:#}"))),
        }
    }

    fn monitor(&mut self, line: &str) -> Result<String> {
        self.0.monitor(line)
    }
}

fn meaning(verdict: &Verdict, stderr: &str) -> End {
    match verdict {
        Verdict::Pass => End::Success,
        Verdict::Fail => End::Failure,
        Verdict::Panic => End::Panic,
        Verdict::PowerOff => End::PowerOff,
        Verdict::Reset => End::Reset,
        Verdict::Closed => End::Other("an end from outside".into()),
        Verdict::Other(code) => End::Other(format!("exit code {code:?} {}", stderr.trim_end())),
    }
}
