//! The root page table of this CPU, once bring-up is over. Where each rights word has a root, the entry code loads those by
//! itself, as it writes PKRS with keys (`protection`).
//!
//! MOV CR3 takes a whole address space from a register, and no check behind it could help: the next instruction would
//! already come from there. So it is in the vault.

use crate::mem::{translations, vault};
use core::arch::naked_asm;

/// RDI: the physical address of the root.
///
/// # Safety
/// The root shows the kernel and this CPU's window as the one in force does.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn write_cr3(root: u64) {
    naked_asm!("mov cr3, rdi", "ret")
}

/// RAX: the root. The first of the vault's text, so that the entry code finds it there (`entry::passing`).
///
/// # Safety
/// As `write_cr3`; called where the vault shows it, while that is open.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.first")]
unsafe extern "C" fn pass_root() {
    naked_asm!("mov cr3, rax", "ret")
}

/// No code of the kernel refers to it by its name.
#[used]
static KEEP: unsafe extern "C" fn() = pass_root;

type WriteCr3 = unsafe extern "C" fn(u64);

/// Uses the tables below a root from now on, and forgets every translation (there are no global pages, and process
/// context identifiers are off).
///
/// # Safety
/// The root shows the kernel and this CPU's window as the one in force does, and stays so while it is in force.
pub(crate) unsafe fn load(root: u64) {
    // SAFETY: as the caller promises; so the vault, the stack and the text go on where they are.
    vault::run(write_cr3 as WriteCr3, |write| unsafe { write(root) });
    translations::root_loaded();
}
