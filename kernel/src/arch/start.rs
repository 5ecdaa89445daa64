//! The first steps of a CPU on the kernel's own page tables.

use super::cpu::{self, Features};
use super::protection::{Protection, ProtectionError};
use super::window;
use super::{gdt, idt};
use crate::boot;
use crate::mem::bringup::seal_tables;
use core::arch::naked_asm;

/// CR4 without SMEP (bit 20) and SMAP (bit 21): the kernel's pages may have U/S set, and the loader's CR4 is not known.
const LENIENT: i64 = !(3 << 20);

/// Loads a root page table, moves to the top of this CPU's kernel stack in its window, and goes on there.
///
/// # Safety
/// The root maps the kernel's image at the same addresses and has a window. The current stack is abandoned.
#[unsafe(naked)]
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe extern "C" fn continue_on_root(root: u64, then_fn: extern "C" fn() -> !) -> ! {
    naked_asm!(
        "mov rax, cr4",
        "and rax, {lenient}",
        "mov cr4, rax",
        "mov cr3, rdi",
        "mov rsp, {stack}",
        "xor ebp, ebp",
        "call rsi",
        "ud2",
        lenient = const LENIENT,
        stack = const window::KERNEL_STACK.top as i64,
    )
}

/// Where the loader sends another CPU, with a pointer to its mailbox in RDI; the kernel has put the root into it.
///
/// # Safety
/// Only the loader jumps here, once for each CPU.
#[unsafe(naked)]
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe extern "C" fn other_cpu_start() -> ! {
    naked_asm!(
        "mov rax, cr4",
        "and rax, {lenient}",
        "mov cr4, rax",
        "mov rax, [rdi + {extra}]",
        "mov cr3, rax",
        "mov rsp, {stack}",
        "xor ebp, ebp",
        "call {main}",
        "ud2",
        lenient = const LENIENT,
        extra = const boot::MAILBOX_EXTRA,
        stack = const window::KERNEL_STACK.top as i64,
        main = sym crate::other_cpu_main,
    )
}

/// Descriptor tables, control registers, and the keys where there are any.
///
/// # Errors
/// [`ProtectionError`] if they do not come up; the kernel must not run domains on such a CPU.
///
/// # Safety
/// Runs once on each CPU, on the root that was built for it.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn set_up_cpu(
    root: u64,
    features: Features,
    protection: Protection,
) -> Result<(), ProtectionError> {
    // SAFETY: the window of this CPU is mapped and its tables are not sealed yet; the IDT is filled. Control registers
    // come first: the CPU must not read descriptors from pages with U/S set while SMAP may be on.
    unsafe {
        cpu::set_control_registers(features, protection);
        gdt::load();
        seal_tables(root);
        idt::load();
        protection.enable()
    }
}
