//! A hostile domain at exact instructions of the way out: with a word of its own, with flags of its own, and in search of
//! what others left in the trap slots.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::fault::FaultKind;
use libpks::abi::layout::KERNEL_BASE;
use libpks::abi::name;
use libpks::proto::adversary::Consequence;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{Guest, LONGEST_WAY, PATIENT, SOON, boot, close};
use tests::plan::Running;

/// The stub of vector 0: what lies behind the gates. Only `jump_past_gates` comes there.
const BEHIND_GATES: u64 = KERNEL_BASE + 0x180;
/// IA32_PKRS.
const PKRS: u64 = 0x6e1;
/// Trap slots of the CPU window (docs/traps.md): 5 of exceptions and of the way out, 6 of interrupts.
const SLOT_5: u64 = 0xffff_ffff_c000_3a00;
const SLOT_6: u64 = 0xffff_ffff_c000_3c00;
/// Where a slot has what the next domain must not read, counted down from its top: RSP, flags, RIP, RAX, RCX, RDX, PKRS.
const PRIVATE: [u64; 7] = [16, 24, 40, 64, 72, 80, 88];
/// Flags that belong to whoever computes: carry, parity, adjust, zero, sign, direction, overflow.
const FREE_FLAGS: u64 = 0xcd5;
/// The place of RAX, RCX and RDX among the debugger's registers.
const GENERAL: [usize; 3] = [0, 2, 3];

/// The adversary, stopped on a machine with one CPU, and what will be said of its end.
struct Scene {
    guest: Guest,
    worker: JoinHandle<(Running, Result<Consequence>)>,
    /// An instruction of its own text, which jumps to itself. It stands there.
    here: u64,
}

impl Scene {
    fn set() -> Result<Self> {
        let (mut guest, mut running) = boot(1)?;
        guest.gdb.interrupt()?;
        guest.gdb.set_breakpoint(BEHIND_GATES)?;
        guest.gdb.resume()?;
        let worker = thread::spawn(move || {
            let request = Request::Crime { name: name("jump_past_gates") };
            let consequence = match running.link.ask(&request, Duration::from_secs(90)) {
                Ok(Reply::Crime(consequence)) => Ok(consequence),
                Ok(other) => Err(anyhow!("not a consequence: {other:?}")),
                Err(failure) => Err(failure.into()),
            };
            (running, consequence)
        });
        ensure!(guest.gdb.stopped_within(PATIENT)?, "the adversary does not come");
        guest.gdb.clear_breakpoint(BEHIND_GATES)?;
        let stack = guest.gdb.rsp()?;
        let here = guest.gdb.read_word(stack)?;
        guest.gdb.write(here, &[0xeb, 0xfe])?;
        guest.gdb.set_rip(here)?;
        Ok(Self { guest, worker, here })
    }

    /// The WRMSR of the way out, found as the instruction that the kernel steps on.
    fn exit_write(&mut self) -> Result<u64> {
        let exit = self.guest.symbol("exit::trap_exit")?;
        for at in exit..exit + 0x200 {
            if self.guest.gdb.read_word(at)? & 0xff_ffff == 0x30_0f48 {
                return Ok(at);
            }
        }
        bail!("no WRMSR behind {exit:#x}")
    }

    /// Runs until the kernel is about to write the adversary's word on its way out to where it stands.
    fn run_to_own_exit(&mut self, write: u64) -> Result<()> {
        for _ in 0..LONGEST_WAY {
            ensure!(self.guest.gdb.run_to(write, SOON)?, "no way out any more");
            if self.guest.gdb.read_word(SLOT_5 - 40)? == self.here {
                return Ok(());
            }
        }
        bail!("the adversary is not run any more")
    }

    /// Lets the guest run; the adversary must end by the abuse of a gate, and nobody else notices.
    fn ends_by_gate_abuse(mut self) -> Result<()> {
        self.guest.gdb.resume()?;
        let (running, consequence) = self.worker.join().map_err(|_| anyhow!("the worker panicked"))?;
        match consequence? {
            Consequence::Ended(report) if report.kind == FaultKind::GateAbuse => close(running),
            other => bail!("not gate abuse: {other:?}"),
        }
    }

    /// Ends the machine where it stands: what was to be seen has been seen.
    fn leave(mut self) -> Result<()> {
        // The answer is that there is nobody any more.
        let _ = self.guest.gdb.monitor("quit");
        self.worker.join().map(drop).map_err(|_| anyhow!("the worker panicked"))
    }

    fn info(&mut self, register: &str, digits: usize) -> Result<u64> {
        let said = self.guest.gdb.monitor("info registers")?;
        let value = said.split(&format!("{register}=")).nth(1).and_then(|rest| rest.get(..digits));
        Ok(u64::from_str_radix(value.context("no such register")?, 16)?)
    }
}

/// A jump to the write of the way out, with a word that opens everything and a frame in the slot: the check comes before
/// the frame is used.
#[test]
fn a_jump_to_the_exits_write_is_checked() -> Result<()> {
    let mut scene = Scene::set()?;
    let write = scene.exit_write()?;
    let bad = scene.guest.symbol("traps::gate_bad")?;
    for (number, value) in GENERAL.into_iter().zip([0, PKRS, 0]) {
        scene.guest.gdb.set_general(number, value)?;
    }
    scene.guest.gdb.set_rip(write)?;
    ensure!(scene.guest.gdb.run_to(bad, SOON)?, "the word that opens everything was taken");
    scene.ends_by_gate_abuse()
}

/// Whatever let a domain run under another word than its own: the next trap sees it and ends the domain.
#[test]
fn a_word_that_no_exit_wrote_ends_the_domain() -> Result<()> {
    let mut scene = Scene::set()?;
    let write = scene.exit_write()?;
    scene.run_to_own_exit(write)?;
    let own = scene.info("RAX", 16)?;
    scene.guest.gdb.set_general(GENERAL[0], 0)?;
    scene.guest.gdb.step()?;
    // The check finds what it wants; the register has something else.
    scene.guest.gdb.set_general(GENERAL[0], own)?;
    scene.ends_by_gate_abuse()
}

/// A domain gets the arithmetic flags back, and interrupts on; not what it set beyond that.
#[test]
fn flags_of_a_domain_are_masked() -> Result<()> {
    let mut scene = Scene::set()?;
    // Interrupts, nested task, alignment check, I/O privilege level 3, carry.
    let set = 0x200 | 0x4000 | 0x4_0000 | 0x3000 | 1;
    scene.guest.gdb.set_flags(set | 2)?;
    let before = scene.info("RFL", 8)?;
    ensure!(before & u64::from(set) == u64::from(set), "the flags are {before:#x}");
    let write = scene.exit_write()?;
    scene.run_to_own_exit(write)?;
    let here = scene.here;
    ensure!(scene.guest.gdb.run_to(here, SOON)?, "the adversary does not go on");
    let after = scene.info("RFL", 8)?;
    ensure!(after & !FREE_FLAGS == 0x202 && after & 1 == 1, "the flags are {after:#x}");
    scene.leave()
}

/// What a trap and the way out put into their slots is gone before another domain can read it.
#[test]
fn slots_are_scrubbed() -> Result<()> {
    let mut scene = Scene::set()?;
    let here = scene.here;
    let secrets = [0x5ec2_e700, 0x5ec2_e701, 0x5ec2_e702];
    for (number, value) in GENERAL.into_iter().zip(secrets) {
        scene.guest.gdb.set_general(number, value)?;
    }
    scene.guest.gdb.set_flags(0x202)?;
    let stub = scene.guest.symbol("traps::level6")?;
    ensure!(scene.guest.gdb.run_to(stub, SOON)?, "no interrupt");
    let frame = scene.guest.gdb.read_word(SLOT_6 - 40)?;
    ensure!(frame == here, "the interrupt came at {frame:#x} instead of {here:#x}");
    let event = scene.guest.symbol("trap::kernel_event")?;
    ensure!(scene.guest.gdb.run_to(event, SOON)?, "the stub does not end");
    for below in PRIVATE {
        let left = scene.guest.gdb.read_word(SLOT_6 - below)?;
        ensure!(left == 0, "slot 6 still has {left:#x} at -{below}");
    }
    let write = scene.exit_write()?;
    scene.run_to_own_exit(write)?;
    ensure!(scene.guest.gdb.run_to(here, SOON)?, "the adversary does not go on");
    ensure!(scene.info("RAX", 16)? == secrets[0], "it got other registers back");
    for below in [64, 72, 80] {
        let left = scene.guest.gdb.read_word(SLOT_5 - below)?;
        ensure!(left == 0, "slot 5 still has {left:#x} at -{below}");
    }
    scene.leave()
}
