//! GDT and TSS: a null descriptor, one 64-bit code segment, one data segment, the TSS. No ring 3, no compatibility
//! code, no call gate, a null LDT.
//!
//! They lie in the CPU window, read-only and out of the keys' reach. Accessed and busy bits are set beforehand, because the CPU's
//! own write to them would fault there (docs/traps.md).

use super::insn::init::{TablePointer, load_gdt};
use super::window;

/// Selector of the code segment.
pub(crate) const KERNEL_CODE: u64 = 0x08;
/// Selector of the data segment.
pub(crate) const KERNEL_DATA: u64 = 0x10;
/// Selector of the TSS.
const TASK: u64 = 0x18;

/// Where in the page of tables the TSS lies.
const TSS_OFFSET: u64 = 0x100;
/// Bytes of a 64-bit TSS (Intel SDM vol. 3A, figure 8-11).
const TSS_BYTES: u64 = 104;
/// Bytes of the GDT: five entries of 8, the TSS descriptor takes two.
const GDT_BYTES: usize = 40;

/// A present, accessed, 64-bit code segment of ring 0.
const CODE_DESCRIPTOR: u64 = 0x0020_9b00_0000_0000;
/// A present, accessed, writable data segment of ring 0.
const DATA_DESCRIPTOR: u64 = 0x0000_9300_0000_0000;

/// The content of the page of tables; the same on every CPU, because every address in it is one of the window.
pub(crate) fn build() -> [u8; 4096] {
    let mut page = [0; 4096];
    let base = window::TABLES + TSS_OFFSET;
    let task_low = (0x89 << 40) | ((base & 0xff_ffff) << 16) | ((base >> 24 & 0xff) << 56) | (TSS_BYTES - 1);
    let gdt = [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR, task_low, base >> 32];
    for (bytes, entry) in page.chunks_exact_mut(8).zip(gdt) {
        bytes.copy_from_slice(&entry.to_le_bytes());
    }
    let tss = TSS_OFFSET as usize;
    for ist in 1..=7u64 {
        // IST 7 is used by no gate; it points to the slot of level 5 so that it is nothing worse.
        let at = tss + 0x24 + (ist as usize - 1) * 8;
        let top = window::slot_top(if ist == 7 { 5 } else { ist });
        page[at..at + 8].copy_from_slice(&top.to_le_bytes());
    }
    // The I/O permission map lies beyond the limit: there is none.
    page[tss + 102..tss + 104].copy_from_slice(&(TSS_BYTES as u16).to_le_bytes());
    page
}

/// Makes this CPU use the tables in its window.
///
/// # Safety
/// The window is mapped and the page of tables is still writable, because LTR marks the TSS busy.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn load() {
    let pointer = TablePointer { limit: GDT_BYTES as u16 - 1, base: window::TABLES };
    // SAFETY: `build` laid the segments out as the selectors say; the window stays mapped for good.
    unsafe { load_gdt(&pointer, KERNEL_CODE, KERNEL_DATA, TASK) };
}
