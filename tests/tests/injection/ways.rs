//! The ways through the entry code: how each is begun from `home`, where a thread stands at the system call gate.

use anyhow::{Context, Result, bail, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL};
use libpks::abi::selftest::SelfTestOp;

use tests::gdbstub::Registers;
use tests::guest::SOON;

use crate::retry::{Elsewhere, again};
use crate::stand::{R15, RAX, RBP, RDX, RSI, Stand, frame_rip};

/// Registers of a SelfTest call's arguments.
const R8: usize = 8;
const R9: usize = 9;
const R10: usize = 10;
const R11: usize = 11;
/// Where the record of an event has RIP (`PerCpu` and `Record` of the kernel).
const RECORD_RIP: u64 = 0xffff_ffff_c000_1010 + 16 * 8;
/// Where a passage, a connection and a frame have what (`Passage`, `Connection`, `Frame` of the kernel).
const BASE: u64 = 24;
const ROOT: u64 = 64;
const FRAMES: u64 = 128;
const CONNECTION_ROOT: u64 = 64;
const FRAME_BASE: u64 = 32;
const FRAME_ROOT: u64 = 40;
const FRAME_BYTES: u64 = 64;
/// How many calls or replies are looked at for one that is passed.
const CALLS: usize = 50;
/// What no return address may be.
pub(crate) const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// Which events can be told apart on a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// NMIs arrive at once.
    All,
    /// The CPU holds NMIs back until IRETQ.
    NmisHeldBack,
}

pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) events: Events,
    /// Whether the thread goes on afterwards, and with it the one that waits for it.
    pub(crate) goes_on: bool,
    /// From `home` to the first instruction.
    begin_fn: BeginFn,
}

type BeginFn = fn(&mut Stand) -> Result<()>;

/// A way behind which the two threads go on as if nothing had been.
const fn harmless(name: &'static str, begin_fn: BeginFn) -> Way {
    Way { name, events: Events::All, goes_on: true, begin_fn }
}

/// A way that ends the thread, or that is left in the middle of something else.
const fn way(name: &'static str, begin_fn: BeginFn) -> Way {
    Way { name, events: Events::All, goes_on: false, begin_fn }
}

/// A way in an NMI's handler.
const fn held_back(name: &'static str, begin_fn: BeginFn) -> Way {
    Way { name, events: Events::NmisHeldBack, goes_on: false, begin_fn }
}

/// All of them. Together they pass every instruction.
pub(crate) const WAYS: &[Way] = &[
    harmless("system call gate", |_| Ok(())),
    way("call gate", |stand| go(stand, GATE_CALL)),
    way("reply gate", |stand| go(stand, GATE_REPLY)),
    way("a call that the entry code passes", |stand| decided(stand, "passing::pass_call")),
    way("a reply that the entry code passes", |stand| decided(stand, "passing::pass_reply")),
    way("a call that the books do not know", |stand| {
        to(stand, "passing::pass_call")?;
        stand.guest.gdb.set_general(R15, 0)
    }),
    way("a call with more than words", |stand| {
        to(stand, "passing::pass_call")?;
        stand.guest.gdb.set_general(R11, 1)
    }),
    way("a reply with more than words", |stand| {
        to(stand, "passing::pass_reply")?;
        stand.guest.gdb.set_general(R11, 1)
    }),
    way("a reply to a call without a frame", |stand| {
        let passage = to_comparison(stand, "passing::pass_reply")?.general(RBP);
        let base = stand.guest.gdb.read_word(passage + BASE)?;
        stand.guest.gdb.set_general(RAX, base)
    }),
    way("a call that is passed into another view", |stand| {
        decided(stand, "passing::pass_call")?;
        let registers = to_comparison(stand, "passing::pass_call")?;
        // The other view is the one in force: its root is loaded all the same.
        let (passage, connection) = (registers.general(RBP), registers.general(RDX));
        let root = stand.guest.gdb.read_word(passage + ROOT)?;
        let handle = stand.guest.gdb.read_word(connection)?;
        stand.guest.gdb.write(connection, &(!handle).to_le_bytes())?;
        stand.guest.gdb.write(connection + CONNECTION_ROOT, &root.to_le_bytes())
    }),
    way("a reply that is passed into another view", |stand| {
        decided(stand, "passing::pass_reply")?;
        let registers = to_comparison(stand, "passing::pass_reply")?;
        let (passage, top) = (registers.general(RBP), registers.general(RAX));
        let (frame, root) = (top - FRAME_BYTES, stand.guest.gdb.read_word(passage + ROOT)?);
        stand.guest.gdb.write(frame + FRAME_BASE, &(passage + FRAMES).to_le_bytes())?;
        stand.guest.gdb.write(frame + FRAME_ROOT, &root.to_le_bytes())?;
        stand.guest.gdb.write(passage + BASE, &top.to_le_bytes())
    }),
    way("#DF of a domain", |stand| stand.execute_in_domain(&[0xcd, 8])),
    way("INT 18 of a domain", |stand| stand.execute_in_domain(&[0xcd, 18])),
    way("#DB of a domain", |stand| stand.execute_in_domain(&[0xcd, 1])),
    way("exception of a domain", |stand| stand.execute_in_domain(&[0xcd, 3])),
    harmless("interrupt of a domain", |stand| {
        // The thread goes on at the gate: the two bytes before it fill a gap.
        stand.guest.gdb.set_rip(GATE_SYSCALL - 2)?;
        stand.execute(&[0xcd, 0x21])
    }),
    way("#DF in the kernel", |stand| in_kernel(stand, 8)),
    harmless("INT 18 in the kernel", |stand| before_kernel(stand, 18, 3)),
    harmless("#DB in the kernel", |stand| before_kernel(stand, 1, 4)),
    way("exception in the kernel", |stand| in_kernel(stand, 3)),
    way("interrupt in the kernel", |stand| in_kernel(stand, 0x21)),
    harmless("mended fault in the kernel", |stand| {
        self_test(stand, SelfTestOp::NestedTrap, [3, 0, 0])?;
        to(stand, "traps::nested5")
    }),
    way("more traps than stacks", |stand| {
        self_test(stand, SelfTestOp::Overflow, [2, 0, 0])?;
        to(stand, "traps::nested_too_deep")
    }),
    way("a check that fails", |stand| {
        let rip = stand.guest.gdb.rip()?;
        let check = stand.text.behind(rip, Mnemonic::Wrmsr)?;
        go(stand, check)?;
        stand.guest.gdb.set_general(RAX, 0)
    }),
    way("a return address that is none", |stand| {
        to(stand, "exit::trap_exit")?;
        stand.guest.gdb.write(RECORD_RIP, &NOT_CANONICAL.to_le_bytes())
    }),
    held_back("NMI over a domain", nmi_here),
    held_back("NMI over the kernel", |stand| {
        to(stand, "trap::kernel_event")?;
        nmi_here(stand)
    }),
    held_back("NMI over a jump into the NMI stub", |stand| {
        let stub = stand.nmi;
        stand.guest.gdb.set_rip(stub)?;
        stand.guest.gdb.step()?;
        nmi_here(stand)
    }),
    held_back("NMI over a forged handler", |stand| {
        let stub = stand.nmi;
        stand.guest.gdb.set_rip(stub)?;
        to(stand, "trap::kernel_nmi")?;
        nmi_here(stand)
    }),
];

impl Way {
    /// Puts the guest at its first instruction.
    pub(crate) fn begin(&self, stand: &mut Stand) -> Result<()> {
        again(|| {
            stand.home()?;
            (self.begin_fn)(stand)
        })
        .with_context(|| self.name)
    }
}

fn go(stand: &mut Stand, address: u64) -> Result<()> {
    stand.come_to(address)
}

/// The beginning of a call or a reply that the entry code will pass by itself. Whether it does is known where it counts
/// the way, so it is followed to there, and put back.
fn decided(stand: &mut Stand, function: &str) -> Result<()> {
    let start = stand.guest.symbol(function)?;
    let counted = stand.text.next(start, Mnemonic::Inc)?;
    let not_passed = stand.guest.symbol("gates::gate_common")?;
    for _ in 0..CALLS {
        go(stand, start).with_context(|| function.to_owned())?;
        stand.guest.gdb.save("undecided")?;
        ensure!(stand.guest.gdb.go_to(&[counted, not_passed], SOON)?, "{function} does not end");
        if stand.guest.gdb.rip()? == counted {
            return stand.guest.gdb.load("undecided");
        }
    }
    bail!("{function} passes nothing")
}

/// The first comparison of a function that passes something: of the handle, or of the top of the frames.
fn to_comparison(stand: &mut Stand, function: &str) -> Result<Registers> {
    let start = stand.guest.symbol(function)?;
    let comparison = stand.text.next(start, Mnemonic::Cmp)?;
    go(stand, comparison).context(function.to_owned())?;
    stand.guest.gdb.all_registers()
}

fn to(stand: &mut Stand, function: &str) -> Result<()> {
    let address = stand.guest.symbol(function)?;
    go(stand, address).context(function.to_owned())
}

/// An interrupt instruction at the start of the kernel's handler of an event.
pub(crate) fn in_kernel(stand: &mut Stand, vector: u8) -> Result<()> {
    to(stand, "trap::kernel_event")?;
    stand.execute(&[0xcd, vector])
}

/// The same for a trap that is gone on from, with what was interrupted: no instruction is lost.
fn before_kernel(stand: &mut Stand, vector: u8, slot: u64) -> Result<()> {
    to(stand, "trap::kernel_event")?;
    let rip = stand.guest.gdb.rip()?;
    stand.execute(&[0xcd, vector])?;
    stand.guest.gdb.write(frame_rip(slot), &rip.to_le_bytes())
}

/// Makes the system call at the gate another one of the SelfTest capability.
pub(crate) fn self_test(stand: &mut Stand, op: SelfTestOp, arguments: [u64; 3]) -> Result<()> {
    stand.guest.gdb.set_general(RSI, op as u64)?;
    for (register, value) in [R8, R9, R10].into_iter().zip(arguments) {
        stand.guest.gdb.set_general(register, value)?;
    }
    Ok(())
}

/// An NMI at this instruction, and to its stub.
fn nmi_here(stand: &mut Stand) -> Result<()> {
    let (at, nmi) = (stand.guest.gdb.rip()?, stand.nmi);
    stand.let_timer_expire()?;
    stand.guest.gdb.monitor("nmi")?;
    go(stand, nmi)?;
    let hit = stand.guest.gdb.read_word(frame_rip(1))?;
    ensure!(hit == at, Elsewhere(format!("the NMI for {at:#x} arrived at {hit:#x}")));
    Ok(())
}
