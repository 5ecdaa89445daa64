//! The first steps of a CPU on the kernel's own page tables.

use super::cpu::{self, Features};
use super::window;
use super::{gdt, idt};
use crate::boot;
use crate::mem::bringup::seal_tables;
use core::arch::naked_asm;

/// Loads a root page table, moves to the top of this CPU's kernel stack in its window, and goes on there.
///
/// # Safety
/// The root maps the kernel's image at the same addresses and has a window. The current stack is abandoned.
#[unsafe(naked)]
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe extern "C" fn continue_on_root(root: u64, then_fn: extern "C" fn() -> !) -> ! {
    naked_asm!(
        "mov cr3, rdi",
        "mov rsp, {stack}",
        "xor ebp, ebp",
        "call rsi",
        "ud2",
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
        "mov rax, [rdi + {extra}]",
        "mov cr3, rax",
        "mov rsp, {stack}",
        "xor ebp, ebp",
        "call {main}",
        "ud2",
        extra = const boot::MAILBOX_EXTRA,
        stack = const window::KERNEL_STACK.top as i64,
        main = sym crate::other_cpu_main,
    )
}

/// Descriptor tables, control registers, and PKS where the CPU has it.
///
/// # Errors
/// [`cpu::PksError`] if PKS does not come up; the kernel must not run domains on such a CPU.
///
/// # Safety
/// Runs once on each CPU, on the root that was built for it.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn set_up_cpu(root: u64, features: Features) -> Result<(), cpu::PksError> {
    // SAFETY: the window of this CPU is mapped and its tables are not sealed yet; the IDT is filled; control
    // registers come before PKS.
    unsafe {
        gdt::load();
        seal_tables(root);
        idt::load();
        cpu::set_control_registers(features);
        if features.pks { cpu::enable_pks() } else { Ok(()) }
    }
}
