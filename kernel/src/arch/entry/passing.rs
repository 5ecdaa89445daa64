//! Calls and replies that need no decision: the entry code carries them out, under the kernel's lock. What it works with, and
//! why the books may be told later, is in `ipc::passage`.
//!
//! Everything here runs at DEPTH 1 on the kernel's word, with registers that a domain chose. An index is masked before it
//! is used, and every address that is followed comes from memory under the kernel's key; the domain's stack pointer is
//! written down and loaded, never followed. Until a way is decided on nothing has changed but RAX, RCX, RDX, RBP, RSP, so
//! the kernel's own way can still be taken, with the registers as they came. Out it goes as at any exit: DEPTH is given up,
//! the word comes from CELL, and the check follows the write.

use super::super::record::{self, Record};
use super::super::window;
use super::gates::{gate_common, gate_landing};
use super::traps::gate_bad;
use super::*;

/// Flags from constants, the lock if nobody has it, and the CPU's passage in RBP. Only messages of words alone are passed.
macro_rules! begin {
    () => {
        concat!(
            own_stack!("KSTK"),
            "mov [.LREC+.LrRBP], rbp\n",
            "test r11, r11\njnz 2f\n",
            "mov al, 1\nxchg [rip + {presence}], al\ntest al, al\njnz 2f\n",
            "mov rbp, [.LPASSAGE]\n",
        )
    };
}

/// Gives up lock and DEPTH, writes the word of who runs next, and leaves nothing in the registers that this took.
macro_rules! leave {
    () => {
        concat!(
            "mov byte ptr [rip + {presence}], 0\n",
            "mov dword ptr [.LDEPTH], 0\n",
            range_begin!(),
            write_cell!(),
            range_end!(),
            check_cell!(),
            "lfence\n",
            "xor eax, eax\nxor ecx, ecx\nxor edx, edx\n",
        )
    };
}

/// The kernel's own way, with the registers as they came.
macro_rules! the_kernels_way {
    ($vector:literal) => {
        concat!(
            "1:\n",
            "mov byte ptr [rip + {presence}], 0\n",
            "2:\n",
            "mov rbp, [.LREC+.LrRBP]\n",
            "mov eax, ",
            $vector,
            "\njmp {common}\n",
        )
    };
}

stub! {
    /// A call through a handle that this CPU remembers, to an activation that is free.
    ".entry" pass_call [gate_bad = gate_bad, common = gate_common, presence = crate::lock::PRESENCE]
    begin!(),
    "mov eax, r15d\nand eax, .LcMASK\nshl eax, .LcSHIFT\nlea rdx, [rbp+rax+.LpCONN]",
    "cmp r15, [rdx+.LcHANDLE]\njne 1f",
    "mov rax, [rbp+.LpOWNER]\ncmp rax, [rdx+.LcOWNER]\njne 1f",
    "mov rcx, [rdx+.LcACT]",
    "cmp dword ptr [rcx+.LaAVAIL], 0\nje 1f",
    "mov rax, [rbp+.LpTOP]\ncmp rax, [rbp+.LpLIMIT]\njae 1f",
    // Decided. The caller's side into a frame.
    "mov dword ptr [rcx+.LaAVAIL], 0",
    "inc qword ptr [rcx+.LaCALLS]",
    "inc qword ptr [rbp+.LpWAYS]",
    "mov rbx, [.LREC+.LrRSP]\nmov [rax+.LfRSP], rbx",
    "mov rbx, [rbp+.LpOWNER]\nmov [rax+.LfOWNER], rbx",
    "mov rbx, [rbp+.LpWORD]\nmov [rax+.LfWORD], rbx",
    "mov [rax+.LfACT], rcx",
    "add rax, .LfBYTES\nmov [rbp+.LpTOP], rax",
    // The server's side from the connection.
    "mov rbx, [rdx+.LcSERVER]\nmov [rbp+.LpOWNER], rbx",
    "add rcx, .LaWORD\nmov [rbp+.LpWORD], rcx",
    "mov eax, [rcx]\nmov [.LCELLALIAS], eax",
    "mov rbp, [rdx+.LcENTRY]",
    "mov r15, [rdx+.LcBADGE]",
    "mov rbx, [rdx+.LcCOOKIE]",
    "mov rsp, [rdx+.LcSTACK]",
    leave!(),
    "sti",
    "jmp rbp",
    the_kernels_way!("0x100"),
}

stub! {
    /// A reply to a call that has a frame.
    ".entry" pass_reply [
        gate_bad = gate_bad, common = gate_common, landing = gate_landing, presence = crate::lock::PRESENCE
    ]
    begin!(),
    "mov rax, [rbp+.LpTOP]\nlea rdx, [rbp+.LpFRAMES]\ncmp rax, rdx\nje 1f",
    "sub rax, .LfBYTES\nmov [rbp+.LpTOP], rax",
    "mov rcx, [rbp+.LpLOWEST]\ncmp rax, rcx\ncmovb rcx, rax\nmov [rbp+.LpLOWEST], rcx",
    "inc qword ptr [rbp+.LpWAYS]",
    "mov rcx, [rax+.LfACT]\nmov dword ptr [rcx+.LaAVAIL], 1",
    "mov rdx, [rax+.LfOWNER]\nmov [rbp+.LpOWNER], rdx",
    "mov rdx, [rax+.LfWORD]\nmov [rbp+.LpWORD], rdx",
    "mov ecx, [rdx]\nmov [.LCELLALIAS], ecx",
    "mov rsp, [rax+.LfRSP]",
    "xor r15d, r15d\nxor ebx, ebx\nxor ebp, ebp",
    leave!(),
    "sti",
    "jmp {landing}",
    the_kernels_way!("0x101"),
}
