//! A domain jumps to each WRMSR of the entry code with another register's number in ECX. The write happens; whatever comes
//! first, the check behind it, a single step that the domain has arranged, or an interrupt, the kernel must put the register
//! right before anybody else runs.

use anyhow::{Context, Result, ensure};
use iced_x86::Mnemonic;
use libpks::pkey::Pkrs;
use tests::guest::SOON;
use tests::plan::is_full;

use crate::stand::{INTERRUPTS, RAX, RCX, RDX, Stand};

/// In words, the register, and what its value becomes.
type Wish = (&'static str, u64, fn(u64) -> u64);

/// Registers that the emulator keeps, and what a hijacked domain would like to have in them.
const WISHES: [Wish; 6] = [
    ("EFER with SYSCALL", 0xc000_0080, |efer| efer | 1),
    ("a segment for SYSENTER", 0x174, |_| 8),
    ("no memory cached", 0x277, |_| 0),
    ("no memory cached by default", 0x2ff, |default| default ^ 0xc06),
    ("a machine check in progress", 0x17a, |_| 4),
    ("no APIC", APIC_BASE, |base| base & !0x800),
];
const APIC_BASE: u64 = 0x1b;

/// What comes behind the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Check,
    CheckWithoutInterrupts,
    SingleStep,
    Timer,
}

impl Next {
    const ALL: [Self; 4] = [Self::Check, Self::CheckWithoutInterrupts, Self::SingleStep, Self::Timer];

    const fn flags(self) -> u32 {
        match self {
            Self::Check => INTERRUPTS | 2,
            Self::CheckWithoutInterrupts | Self::Timer => 2,
            Self::SingleStep => INTERRUPTS | 0x102,
        }
    }
}

/// The writes of PKRS in the entry code.
fn writes(stand: &Stand) -> Result<Vec<u64>> {
    let is_write = |address: &u64| stand.text.at(*address) == Some(Mnemonic::Wrmsr);
    let writes: Vec<u64> = stand.text.addresses().filter(is_write).collect();
    ensure!(writes.len() >= 12, "only {} writes", writes.len());
    Ok(writes)
}

/// The value is the very word that the check behind the write wants to see, the kernel's or the domain's own; so only the
/// number in ECX gives the jump away.
#[test]
fn the_right_word_in_another_register_is_found_out() -> Result<()> {
    const SYSENTER_CS: u64 = 0x174;
    let mut stand = Stand::new()?;
    let exit = stand.guest.symbol("exit::trap_exit")?;
    stand.home()?;
    let (before, own) = (stand.msr(SYSENTER_CS)?, stand.pkrs()?);
    for at in writes(&stand)? {
        for word in [own, Pkrs::KERNEL.raw()] {
            let told = || format!("{word:#x} into SYSENTER_CS by the WRMSR at {at:#x}");
            jump(&mut stand, at, SYSENTER_CS, u64::from(word), INTERRUPTS | 2)?;
            stand.guest.gdb.step()?;
            ensure!(stand.msr(SYSENTER_CS)? != before, "{}: it stays {before:#x}", told());
            ensure!(stand.guest.gdb.run_to(exit, SOON)?, "{}: no event", told());
            let after = stand.msr(SYSENTER_CS).with_context(told)?;
            ensure!(after == before, "{}: {after:#x} in place of {before:#x}", told());
        }
    }
    stand.finish()
}

#[test]
fn no_other_register_outlasts_the_event() -> Result<()> {
    let mut stand = Stand::new()?;
    let exit = stand.guest.symbol("exit::trap_exit")?;
    let timer = stand.guest.symbol("traps::level6")?;
    let writes = writes(&stand)?;
    for (n, (wish, number, change_fn)) in WISHES.into_iter().enumerate() {
        stand.home()?;
        let before = stand.msr(number)?;
        let value = change_fn(before);
        let tried = writes.iter().skip(n % stride()).step_by(stride());
        for (at, next) in tried.flat_map(|at| Next::ALL.map(|next| (*at, next))) {
            let told = || format!("{wish}, by the WRMSR at {at:#x}, then {next:?}");
            jump(&mut stand, at, number, value, next.flags())?;
            if next != Next::SingleStep {
                stand.guest.gdb.step()?;
                let written = stand.msr(number)?;
                ensure!(written != before, "{}: the emulator keeps {before:#x}", told());
            }
            if next == Next::Timer {
                stand.let_timer_expire()?;
                stand.guest.gdb.set_flags(INTERRUPTS | 2)?;
            }
            ensure!(stand.guest.gdb.run_to(exit, SOON)?, "{}: no event", told());
            let after = stand.msr(number).with_context(told)?;
            let on = 0x800;
            // The emulator's APIC cannot be switched on again; it can be set up again.
            let kept = if number == APIC_BASE { (after | on, before | on) } else { (after, before) };
            ensure!(kept.0 == kept.1, "{}: {after:#x} in place of {before:#x}", told());
            if number == APIC_BASE {
                ensure!(stand.guest.gdb.run_to(timer, SOON)?, "{}: no timer any more", told());
            }
        }
    }
    stand.finish()
}

/// Every how many-th write is tried; each register begins with another one.
fn stride() -> usize {
    if is_full() { 1 } else { 4 }
}

fn jump(stand: &mut Stand, at: u64, number: u64, value: u64, flags: u32) -> Result<()> {
    stand.home()?;
    let gdb = &mut stand.guest.gdb;
    for (register, value) in [(RAX, value & 0xffff_ffff), (RCX, number), (RDX, value >> 32)] {
        gdb.set_general(register, value)?;
    }
    gdb.set_flags(flags)?;
    gdb.set_rip(at)
}
