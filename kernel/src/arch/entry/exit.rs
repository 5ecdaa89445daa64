//! The way out of an event to the domain of the current thread.

use super::super::record::{self, Record};
use super::super::window;
use super::traps::gate_bad;
use super::*;

stub! {
    /// Leaves as the record and CELL say. DEPTH is 1; RIP, flags, segments are made safe here: arithmetic and direction flags of
    /// the record, interrupts on, everything else clear; a RIP that is not canonical never reaches IRETQ.
    ".entry" trap_exit [gate_bad = gate_bad]
    "mov rax, [.LREC+.LrRIP]",
    "sar rax, 47",
    "inc rax",
    "cmp rax, 1",
    "ja 2f",
    put_slot!("S5", ".LREC", "0xcd5", "0x202"),
    load_rest!(".LREC"),
    "mov dword ptr [.LDEPTH], 0",
    range_begin!(),
    write_cell!(),
    range_end!(),
    check_cell!(),
    load3!("S5"),
    "mov rsp, .LS5-40",
    "iretq",
    "2:",
    "mov dword ptr [.LDEPTH], 0",
    "jmp {gate_bad}",
}
