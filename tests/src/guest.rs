//! A guest that is stopped at exact instructions while it does what it is asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use image::qemu::{Loader, Machine};
use image::system::System;
use image::workspace::Workspace;
use libpks::proto::testlink::{Reply, Request};

use crate::gdbstub::{GdbStub, free_port, function, symbol};
use crate::plan::{End, Running, compare_closing};
use crate::qemu;

/// What an exchange over the test link may take, the guest being stopped again and again.
pub const PATIENT: Duration = Duration::from_secs(120);
/// What the guest may take to get to an instruction that it executes all the time.
pub const SOON: Duration = Duration::from_secs(60);
/// Instructions of one way in or out at most.
pub const LONGEST_WAY: usize = 200;

/// The debugger's side of a guest. What the guest is to do is asked for over its test link ([`Running`]), on another
/// thread, so that this one can stop it meanwhile.
#[derive(Debug)]
pub struct Guest {
    /// The way to stop it.
    pub gdb: GdbStub,
    system: Arc<System>,
    _scratch: Option<tempfile::NamedTempFile>,
    _turn: MutexGuard<'static, ()>,
}

/// One guest at a time: a guest that is stopped again and again must not wait for the host as well.
static TURN: Mutex<()> = Mutex::new(());

/// Boots the test system directly, waits until the test link answers, and leaves the guest running.
///
/// # Errors
/// When it does not build, does not boot, or does not answer.
pub fn boot(cpus: u32) -> Result<(Guest, Running)> {
    boot_on(Machine::new(Loader::Direct).cpus(cpus), None)
}

/// The same with a drive on which the machine can be kept ([`GdbStub::save`]).
///
/// # Errors
/// As [`boot`].
pub fn boot_with_snapshots(cpus: u32) -> Result<(Guest, Running)> {
    let scratch = tempfile::NamedTempFile::new()?;
    scratch.as_file().set_len(1 << 20)?;
    // What is written, snapshots too, goes to a file of QEMU's own, which vanishes with it.
    let drive = format!("if=none,id=scratch,format=raw,snapshot=on,file={}", scratch.path().display());
    // What is saved again and again should be small.
    let machine = Machine::new(Loader::Direct).cpus(cpus).memory_mib(64).extra(["-drive", &drive]);
    boot_on(machine, Some(scratch))
}

fn boot_on(machine: Machine, scratch: Option<tempfile::NamedTempFile>) -> Result<(Guest, Running)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = Arc::new(Workspace::find()?);
    let system = Arc::new(System::build(&workspace, &workspace.root().join("boot/test.toml"))?);
    let port = free_port()?;
    let mut running = qemu::boots(workspace, Arc::clone(&system), machine.gdb(port))()?;
    let mut gdb = GdbStub::connect(port)?;
    gdb.resume()?;
    running.link.hello(PATIENT)?;
    Ok((Guest { gdb, system, _scratch: scratch, _turn: turn }, running))
}

impl Guest {
    /// The address of a function of the kernel ([`function`]).
    ///
    /// # Errors
    /// When there is not exactly one whose path ends like that.
    pub fn symbol(&self, path: &str) -> Result<u64> {
        function(self.system.kernel(), path)
    }

    /// The value of a symbol of the kernel that is not mangled.
    ///
    /// # Errors
    /// When there is none.
    pub fn linker_symbol(&self, name: &str) -> Result<u64> {
        symbol(self.system.kernel(), name)
    }

    /// What was built.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The instructions that are executed from `start` on until `within` says no. The guest is stopped before and
    /// afterwards.
    ///
    /// # Errors
    /// When the guest does not come to `start`, or goes on for more than [`LONGEST_WAY`] instructions.
    pub fn way_from(&mut self, start: u64, within: impl Fn(u64) -> bool) -> Result<Vec<u64>> {
        ensure!(self.gdb.run_to(start, SOON)?, "the guest does not come to {start:#x}");
        let mut way = vec![start];
        while way.len() < LONGEST_WAY {
            self.gdb.step()?;
            let rip = self.gdb.rip()?;
            if !within(rip) {
                return Ok(way);
            }
            way.push(rip);
        }
        bail!("the way from {start:#x} does not end");
    }
}

/// Ends a running guest, which must close with a record that agrees with ours and report success.
///
/// # Errors
/// When it does not.
pub fn close(mut running: Running) -> Result<()> {
    let reply = running.link.ask(&Request::Finish, PATIENT)?;
    let Reply::Closing(guest) = reply else { bail!("not a closing record: {reply:?}") };
    compare_closing(guest, running.link.counted())?;
    let end = running.wait(PATIENT)?;
    ensure!(end == End::Success, "the boot ended with {end}");
    Ok(())
}
