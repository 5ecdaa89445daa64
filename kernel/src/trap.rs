//! Where traps arrive in Rust.

use crate::arch::record::Record;

/// An event: a domain was interrupted or came through a gate. On return the record says where to go on.
pub(crate) unsafe extern "C" fn kernel_event(record: *mut Record) {
    // SAFETY: the entry code gives the address of this CPU's record.
    panic!("event {:x?}", unsafe { *record });
}

/// A trap inside the kernel.
pub(crate) unsafe extern "C" fn kernel_nested(record: *mut Record) {
    // SAFETY: the entry code gives the address of this CPU's record.
    panic!("nested {:x?} cr2 {:x}", unsafe { *record }, crate::arch::insn::read_cr2());
}

/// An NMI. Gives 0 to resume with the kernel's word, 1 with the domain's.
pub(crate) unsafe extern "C" fn kernel_nmi(record: *mut Record) -> u64 {
    // SAFETY: the entry code gives the address of this CPU's record.
    panic!("nmi {:x?}", unsafe { *record });
}
