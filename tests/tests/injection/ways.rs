//! The ways through the entry code: how each is begun from `home`, where a thread stands at the system call gate.

use anyhow::{Context, Result, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::{GATE_CALL, GATE_REPLY};
use libpks::abi::selftest::SelfTestOp;
use tests::guest::SOON;

use crate::stand::{RAX, RSI, Stand, frame_rip};

/// Registers of a SelfTest call's arguments.
const R8: usize = 8;
const R9: usize = 9;
const R10: usize = 10;
/// What no return address may be.
const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;

pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// From `home` to the first instruction.
    pub(crate) begin_fn: fn(&mut Stand) -> Result<()>,
}

const fn way(name: &'static str, begin_fn: fn(&mut Stand) -> Result<()>) -> Way {
    Way { name, begin_fn }
}

/// All of them. Together they pass every instruction.
pub(crate) const WAYS: &[Way] = &[
    way("system call gate", |_| Ok(())),
    way("call gate", |stand| go(stand, GATE_CALL)),
    way("reply gate", |stand| go(stand, GATE_REPLY)),
    way("#DF of a domain", |stand| stand.execute_in_domain(&[0xcd, 8])),
    way("INT 18 of a domain", |stand| stand.execute_in_domain(&[0xcd, 18])),
    way("#DB of a domain", |stand| stand.execute_in_domain(&[0xcd, 1])),
    way("exception of a domain", |stand| stand.execute_in_domain(&[0xcd, 3])),
    way("interrupt of a domain", |stand| stand.execute_in_domain(&[0xcd, 0x21])),
    way("#DF in the kernel", |stand| in_kernel(stand, 8)),
    way("INT 18 in the kernel", |stand| in_kernel(stand, 18)),
    way("#DB in the kernel", |stand| in_kernel(stand, 1)),
    way("exception in the kernel", |stand| in_kernel(stand, 3)),
    way("interrupt in the kernel", |stand| in_kernel(stand, 0x21)),
    way("mended fault in the kernel", |stand| {
        self_test(stand, SelfTestOp::NestedTrap, [3, 0, 0])?;
        to(stand, "traps::nested5")
    }),
    way("more traps than stacks", |stand| {
        self_test(stand, SelfTestOp::Overflow, [2, 0, 0])?;
        to(stand, "traps::nested_too_deep")
    }),
    way("a check that fails", |stand| {
        let rip = stand.guest.gdb.rip()?;
        let check = stand.text.next(rip, Mnemonic::Wrmsr)? + 2;
        go(stand, check)?;
        stand.guest.gdb.set_general(RAX, 0)
    }),
    way("a return address that is none", |stand| {
        let vectors = stand.guest.symbol("traps::vectors")?;
        stand.guest.gdb.write(frame_rip(6), &NOT_CANONICAL.to_le_bytes())?;
        stand.guest.gdb.set_rip(vectors + 0x21 * 16)
    }),
    way("NMI over a domain", nmi_here),
    way("NMI over the kernel", |stand| {
        to(stand, "trap::kernel_event")?;
        nmi_here(stand)
    }),
    way("NMI over a jump into the NMI stub", |stand| {
        let stub = stand.nmi;
        stand.guest.gdb.set_rip(stub)?;
        stand.guest.gdb.step()?;
        nmi_here(stand)
    }),
    way("NMI over a forged handler", |stand| {
        let stub = stand.nmi;
        stand.guest.gdb.set_rip(stub)?;
        to(stand, "trap::kernel_nmi")?;
        nmi_here(stand)
    }),
];

impl Way {
    /// Puts the guest at its first instruction.
    pub(crate) fn begin(&self, stand: &mut Stand) -> Result<()> {
        stand.home()?;
        (self.begin_fn)(stand).with_context(|| self.name)
    }
}

fn go(stand: &mut Stand, address: u64) -> Result<()> {
    ensure!(stand.guest.gdb.go_to(&[address], SOON)?, "the guest does not come to {address:#x}");
    Ok(())
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
    stand.guest.gdb.monitor("nmi")?;
    go(stand, nmi)?;
    let hit = stand.guest.gdb.read_word(frame_rip(1))?;
    ensure!(hit == at, "the NMI for {at:#x} arrived at {hit:#x}");
    Ok(())
}
