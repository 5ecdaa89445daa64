//! NMI: handled in place, on its own stack and record, whatever was interrupted.

use super::super::record::{self, Record};
use super::super::window;
use super::traps::gate_bad;
use super::*;
use crate::trap::kernel_nmi;

stub! {
    /// DEPTH is raised, not set. A handler that is entered while it is busy proves that the lower one was a jump or
    /// INT 2, because the CPU blocks NMIs until IRETQ: it leaves a mark and touches no record.
    ".entry" nmi_entry [gate_bad = gate_bad, nmi = kernel_nmi]
    save3!("S1"),
    take_evidence!("S1"),
    write_pkrs!(),
    range_begin!(),
    bad_unless_written!(".LWORD"),
    "lfence",
    "cli",
    "inc dword ptr [.LDEPTH]",
    range_end!(),
    "cmp dword ptr [.LNMIBUSY], 0",
    "jne 2f",
    "mov dword ptr [.LNMIBUSY], 1",
    own_stack!("NSTK"),
    save_rest!("NMIREC"),
    "mov byte ptr [.LS1-96], 2",
    take_slot!("S1", "NMIREC"),
    "mov qword ptr [.LNMIREC+.LrLVL], 1",
    "mov rdi, .LNMIREC",
    "xor ebp, ebp",
    "call {nmi}",
    "mov [.LNMIMODE], eax",
    // The handler has put the flags that may come back into the record.
    put_slot!("S1", "NMIREC", "0x210ed5", "2"),
    load_rest!("NMIREC"),
    "mov dword ptr [.LNMIBUSY], 0",
    "dec dword ptr [.LDEPTH]",
    "cmp dword ptr [.LNMIMODE], 0",
    "je 3f",
    write_cell!(),
    check_cell!(),
    "3:",
    load3!("S1"),
    "mov rsp, .LS1-40",
    "iretq",
    "2:",
    "mov dword ptr [.LNMIFORGED], 1",
    "dec dword ptr [.LDEPTH]",
    "jmp 3b",
}

stub! {
    /// Ends the text of the NMI stub.
    ".entry" nmi_text_end []
    "ud2",
}
