//! Accesses and jumps. They are assembly: the compiler must neither judge them nor leave them out.

mod hidden;
mod leap;

use core::arch::asm;
use core::time::Duration;

use libpks::abi::Syscall;
use libpks::abi::layout::{IMAGE_OFFSET, SLOT_BYTES};
use libpks::rt::thread::spawn;
use libpks::rt::time;

use crate::{Loot, Outcome};
pub(crate) use hidden::{Hidden, interrupt};
pub(crate) use leap::{After, Registers, escaped, landing, leap};

/// The flag that is always set.
const ALWAYS: u64 = 0x2;
/// Stack of threads that commit crimes.
pub(crate) const STACK: u64 = 16 * 1024;

/// Reads a word.
pub(crate) fn read(address: u64) -> u64 {
    let value;
    // SAFETY: it reads and has no other effect. If the address is not this domain's the CPU must refuse, which ends
    // the domain; that is what is tried.
    unsafe {
        asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags, readonly))
    };
    value
}

/// Writes a word.
pub(crate) fn write(address: u64, value: u64) {
    // SAFETY: not sound if it goes through, and that is the point: what is written is never what this domain's own
    // code refers to, so at worst a crime goes through, and the test fails.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
}

/// Calls an address with all registers full of the word that opens every key.
pub(crate) fn jump(address: u64) -> After {
    leap(&Registers { rip: address, ..Registers::default() })
}

/// Sets flags, goes to an address with them, and gives those with which it comes back. Through a gate it is a Yield.
pub(crate) fn with_flags(flags: u64, then: u64) -> u64 {
    let way = [flags | ALWAYS, then, landing(), landing()];
    let rsp = (&raw const way).expose_provenance() as u64;
    let start =
        Registers { rip: Hidden::Popfq.address(), rsp, r15: Syscall::Yield as u64, ..Registers::default() };
    leap(&start).flags
}

/// Executes an instruction out of the middle of another.
pub(crate) fn execute(instruction: Hidden) -> After {
    jump(instruction.address())
}

/// Reads what the domain must not: if it comes back, the wall is down.
pub(crate) fn prove(witness: u64) -> Outcome {
    Ok(Loot::Got(read(witness)))
}

/// Runs something in a thread of its own, which is in no call, and waits for what it gives.
pub(crate) fn at_home(priority: u8, crime_fn: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    spawn(STACK, priority, crime_fn)?.join(None)?
}

/// Runs something in a thread that does not come back, for a while.
pub(crate) fn meanwhile(priority: u8, crime_fn: impl FnOnce() + Send + 'static) -> Outcome {
    spawn(STACK, priority, crime_fn)?;
    time::sleep(Duration::from_millis(100))?;
    Ok(Loot::Nothing)
}

/// The first address of this domain's slot.
pub(crate) fn own_slot() -> u64 {
    (own_slot as *const () as u64) & !(SLOT_BYTES - 1)
}

/// Where this domain's text lies in its image.
pub(crate) fn text_offset() -> u64 {
    (own_slot as *const () as u64) - own_slot() - IMAGE_OFFSET
}

/// Bytes of the GDT's first three descriptors; that of the TSS follows.
const TASK: u64 = 0x18;
/// Where a TSS has the stacks of the IST (Intel SDM vol. 3A, figure 8-11).
const STACKS: u64 = 0x24;

/// Where each trap slot ends: what the TSS, which everybody can read, says of the first six stacks of the IST.
pub(crate) fn slot_tops() -> [u64; 6] {
    let table = table_register(Hidden::StoreGdt);
    let [low, high] = [0, 8].map(|offset| read(table + TASK + offset));
    let base = (low >> 16 & 0xff_ffff) | (low >> 56) << 24 | high << 32;
    core::array::from_fn(|n| read(base + STACKS + 8 * n as u64))
}

/// The address in a register of descriptor tables.
pub(crate) fn table_register(store: Hidden) -> u64 {
    let mut limit_and_base = [0_u16; 8];
    let place = (&raw mut limit_and_base).expose_provenance() as u64;
    leap(&Registers { rip: store.address(), rdi: place, ..Registers::default() });
    // Written behind the compiler's back.
    [2, 4, 6, 8].into_iter().rev().fold(0, |base, at| base << 16 | (read(place + at) & 0xffff))
}
