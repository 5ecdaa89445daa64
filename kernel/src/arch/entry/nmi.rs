//! NMI: handled in place, on its own stack and record, whatever was interrupted.

use super::super::record::{self, Record};
use super::super::window;
use super::exit::trap_exit;
use super::traps::gate_bad;
use super::*;
use crate::trap::{kernel_event, kernel_nmi};

stub! {
    /// DEPTH is raised, not set.
    ///
    /// The CPU blocks NMIs until IRETQ, so an NMI that finds an NMI being handled proves that a domain had entered the
    /// handler by a jump or INT 2. If it interrupted this very text, what it interrupted is given up: nothing of the
    /// kernel is below, for a domain enters at DEPTH 0 and no lock is held here. If it interrupted the Rust part, it
    /// leaves a mark, touches no record and goes back; the mark is looked at when the Rust part returns. Either way
    /// the current thread's domain answers for it, and the NMI becomes an event, whose exit also ends the blocking.
    /// Returning into this text instead would run its end twice and leave DEPTH wrong.
    ".entry" nmi_entry [gate_bad = gate_bad, nmi = kernel_nmi, event = kernel_event, exit = trap_exit]
    "774:",
    save3!("S1"),
    take_evidence!("S1"),
    write_pkrs!(),
    range_begin!(),
    bad_unless_written!("[.LKERNEL]"),
    "lfence",
    "cli",
    "inc dword ptr [.LDEPTH]",
    range_end!(),
    "mov rax, [.LS1-40]",
    "lea rcx, [rip + 774b]",
    "cmp rax, rcx",
    "jb 4f",
    "lea rcx, [rip + 775f]",
    "cmp rax, rcx",
    "jb 5f",
    "4:",
    "cmp dword ptr [.LNMIBUSY], 0",
    "jne 2f",
    "mov dword ptr [.LNMIFORGED], 0",
    "mov dword ptr [.LNMIBUSY], 1",
    own_stack!("NSTK"),
    save_rest!(".LNMIREC"),
    "mov byte ptr [.LS1-96], 2",
    take_slot!("S1", ".LNMIREC"),
    "mov qword ptr [.LNMIREC+.LrLVL], 1",
    "mov rdi, .LNMIREC",
    "xor ebp, ebp",
    "call {nmi}",
    "mov [.LNMIMODE], eax",
    "cmp eax, 2",
    "je 5f",
    "cmp dword ptr [.LNMIFORGED], 0",
    "jne 5f",
    // The handler has put the flags that may come back into the record.
    put_slot!("S1", ".LNMIREC", "0x210ed5", "2"),
    load_rest!(".LNMIREC"),
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
    "5:",
    "mov dword ptr [.LDEPTH], 1",
    "mov dword ptr [.LNMIBUSY], 0",
    own_stack!("KSTK"),
    "mov qword ptr [.LREC+.LrVEC], 0x103",
    "mov rdi, .LREC",
    "xor ebp, ebp",
    "call {event}",
    "jmp {exit}",
    "775:",
}
