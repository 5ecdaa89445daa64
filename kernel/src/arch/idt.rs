//! The IDT: an interrupt gate of ring 0 for every vector, each with an IST stack, because a domain's own stack may
//! be anything.

use super::entry::{STUB_BYTES, vectors_address};
use super::insn::init::{TablePointer, load_idt};
use core::cell::UnsafeCell;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once, by the bootstrap CPU before any other runs; read by CPUs' own table walks afterwards.
unsafe impl Sync for Table {}

/// Out of the keys' reach and read-only once the kernel's page tables are in force.
#[unsafe(link_section = ".idt")]
static IDT: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Which trap slot a vector uses (see `entry`).
const fn stack_of(vector: u64) -> u64 {
    match vector {
        2 => 1,
        8 => 2,
        18 => 3,
        1 => 4,
        0..32 => 5,
        _ => 6,
    }
}

/// Fills the table.
///
/// # Safety
/// Runs once, on the bootstrap CPU, while the loader's page tables still map the image's data writable.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn fill() {
    // SAFETY: nobody else runs yet, as the caller promises.
    let table = unsafe { &mut *IDT.0.get() };
    for (vector, gate) in table.iter_mut().enumerate() {
        let handler = vectors_address() + vector as u64 * STUB_BYTES;
        let low = (handler & 0xffff) | (super::gdt::KERNEL_CODE << 16);
        let kind = 0x8e << 40; // present, ring 0, 64-bit interrupt gate (SDM vol. 3A, 6.14.1)
        *gate =
            [low | (stack_of(vector as u64) << 32) | kind | ((handler >> 16 & 0xffff) << 48), handler >> 32];
    }
}

/// Where it lies.
pub(crate) fn address() -> u64 {
    IDT.0.get() as u64
}

/// Makes this CPU use it.
///
/// # Safety
/// [`fill`] has run.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn load() {
    let pointer = TablePointer { limit: 4095, base: IDT.0.get() as u64 };
    // SAFETY: the table is complete and static.
    unsafe { load_idt(&pointer) };
}
