//! Faults for which a domain answers although entry code met them: a stack that cannot be pushed to, a fault that cannot
//! be delivered, faults on the way out. The report names the domain, which ends; everything else goes on.

use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use iced_x86::Mnemonic;
use libpks::abi::fault::{FaultKind, FaultReport};
use libpks::abi::layout::KERNEL_BASE;
use libpks::abi::name;
use libpks::proto::adversary::{Consequence, SERVER};
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{Guest, LONGEST_WAY, PATIENT, SOON, boot, close};
use tests::plan::Running;

use crate::entry_text::EntryText;
use crate::machine_check::heard_on;
use crate::stand::frame_rip;
use crate::stops::{IST5, NOWHERE};
use crate::ways::NOT_CANONICAL;

/// The stub of vector 0: what lies behind the gates. Only `jump_past_gates` comes there.
const BEHIND_GATES: u64 = KERNEL_BASE + 0x180;
/// `JMP .`, `INT3`, `PUSH RAX`.
const SPIN: [u8; 2] = [0xeb, 0xfe];
const BREAKPOINT: u8 = 0xcc;
const PUSH: u8 = 0x50;
/// Where the event kernel's stack ends.
const KERNEL_STACK: u64 = 0xffff_ffff_c002_0000;
/// Number of RSP.
const RSP: usize = 7;

/// The adversary, stopped on a machine with one CPU.
struct Suspect<'a> {
    guest: &'a mut Guest,
    /// An instruction of its own text, where it stands.
    here: u64,
}

struct Case {
    name: &'static str,
    kind: FaultKind,
    /// Brings the fault about. Gives where the report must say that it was.
    begin_fn: fn(&mut Suspect<'_>) -> Result<u64>,
}

const CASES: &[Case] = &[
    Case {
        name: "no stack for an exception",
        kind: FaultKind::Exception(8),
        begin_fn: no_stack_for_exceptions,
    },
    Case {
        name: "a push to the kernel's stack",
        kind: FaultKind::ProtectionKey,
        begin_fn: stack_of_the_kernel,
    },
    Case { name: "a frame that IRETQ refuses", kind: FaultKind::Exception(13), begin_fn: frame_that_is_none },
    Case {
        name: "a breakpoint in the exit",
        kind: FaultKind::Exception(3),
        begin_fn: breakpoint_in_the_exit,
    },
    Case {
        name: "a return address that is none",
        kind: FaultKind::GateAbuse,
        begin_fn: address_that_is_none,
    },
];

#[test]
fn faults_in_entry_code_are_reported_with_the_domain() -> Result<()> {
    let (mut guest, mut running) = boot(1)?;
    for case in CASES {
        let name = case.name;
        running = judge(case, &mut guest, running).context(name)?;
    }
    let said = running.console.text();
    ensure!(!said.contains("PANIC"), "the kernel gave up:\n{said}");
    close(running)
}

fn judge(case: &Case, guest: &mut Guest, mut running: Running) -> Result<Running> {
    let since = running.console.text().len();
    guest.gdb.interrupt()?;
    guest.gdb.set_breakpoint(BEHIND_GATES)?;
    guest.gdb.resume()?;
    let worker = thread::spawn(move || {
        let reply = running.link.ask(&Request::Crime { name: name("jump_past_gates") }, PATIENT);
        (running, reply)
    });
    ensure!(guest.gdb.stopped_within(SOON)?, "the adversary does not come");
    guest.gdb.clear_breakpoint(BEHIND_GATES)?;
    let stack = guest.gdb.rsp()?;
    let here = guest.gdb.read_word(stack)?;
    guest.gdb.set_rip(here)?;
    let rip = (case.begin_fn)(&mut Suspect { guest, here })?;
    guest.gdb.resume()?;
    let (running, reply) = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    let report = match reply? {
        Reply::Crime(Consequence::Ended(report)) => report,
        other => bail!("no report: {other:?}"),
    };
    let FaultReport { kind, domain_name, .. } = &report;
    ensure!(*kind == case.kind && *domain_name == SERVER, "{kind:?} of {domain_name}");
    ensure!(report.rip == rip, "at {:#x} instead of {rip:#x}", report.rip);
    let domain = format!("domain={SERVER}({})", report.domain);
    heard_on(&running.console, since, &[&domain, &format!("kind={kind:?}"), &format!("rip={rip:#018x}")])?;
    Ok(running)
}

impl Suspect<'_> {
    /// Executes an instruction of one byte in its own text and comes to a stub.
    fn executes(&mut self, instruction: u8, stub: &str) -> Result<()> {
        self.guest.gdb.write(self.here, &[instruction])?;
        let stub = self.guest.symbol(stub)?;
        ensure!(self.guest.gdb.go_to(&[stub], SOON)?, "no trap");
        Ok(())
    }

    /// Goes on until the kernel is about to execute an instruction of its way out to where the adversary stands.
    fn comes_to_its_exit(&mut self, mnemonic: Mnemonic) -> Result<u64> {
        self.guest.gdb.write(self.here, &SPIN)?;
        let exit = self.guest.symbol("exit::trap_exit")?;
        let at = EntryText::of(self.guest)?.next(exit, mnemonic)?;
        for _ in 0..LONGEST_WAY {
            ensure!(self.guest.gdb.run_to(at, SOON)?, "no way out any more");
            if self.guest.gdb.read_word(frame_rip(5))? == self.here {
                return Ok(at);
            }
        }
        bail!("the adversary is not run any more")
    }
}

/// The CPU cannot push the frame of a breakpoint, nor that of the page fault that comes of it: #DF.
fn no_stack_for_exceptions(suspect: &mut Suspect<'_>) -> Result<u64> {
    let stack = suspect.guest.gdb.read(IST5, 8)?;
    suspect.guest.gdb.write(IST5, &NOWHERE.to_le_bytes())?;
    suspect.executes(BREAKPOINT, "traps::level2")?;
    suspect.guest.gdb.write(IST5, &stack)?;
    Ok(suspect.here)
}

/// Traps have stacks of their own, whatever RSP is.
fn stack_of_the_kernel(suspect: &mut Suspect<'_>) -> Result<u64> {
    suspect.guest.gdb.set_general(RSP, KERNEL_STACK)?;
    suspect.executes(PUSH, "traps::level5")?;
    Ok(suspect.here)
}

/// Behind the last check the frame gets a null selector for CS: #GP of IRETQ, under the domain's word.
fn frame_that_is_none(suspect: &mut Suspect<'_>) -> Result<u64> {
    let iretq = suspect.comes_to_its_exit(Mnemonic::Iretq)?;
    suspect.guest.gdb.write(frame_rip(5) + 8, &[0; 8])?;
    Ok(iretq)
}

/// DEPTH is 0 already, and the kernel's word in force.
fn breakpoint_in_the_exit(suspect: &mut Suspect<'_>) -> Result<u64> {
    let wrmsr = suspect.comes_to_its_exit(Mnemonic::Wrmsr)?;
    let there = suspect.guest.gdb.read(wrmsr, 1)?;
    suspect.guest.gdb.write(wrmsr, &[BREAKPOINT])?;
    suspect.guest.gdb.step()?;
    suspect.guest.gdb.write(wrmsr, &there)?;
    Ok(wrmsr + 1)
}

/// A jump to an interrupt's stub, with a frame that leads nowhere: the exit looks before it leaves.
fn address_that_is_none(suspect: &mut Suspect<'_>) -> Result<u64> {
    suspect.guest.gdb.write(frame_rip(6), &NOT_CANONICAL.to_le_bytes())?;
    let vectors = suspect.guest.symbol("traps::vectors")?;
    suspect.guest.gdb.set_rip(vectors + 0x21 * 16)?;
    Ok(NOT_CANONICAL)
}
