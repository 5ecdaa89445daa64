//! Calls and replies that need no decision: the entry code carries them out, under the kernel's lock. What it works with, and
//! why the books may be told later, is in `ipc::passage`.
//!
//! Everything here runs at DEPTH 1 on the kernel's word, with registers that a domain chose. An index is masked before it
//! is used, and every address that is followed comes from memory under the kernel's key; the domain's stack pointer is
//! written down and loaded, never followed. Until a way is decided on nothing has changed but RAX, RCX, RDX, RBP, RSP, so
//! the kernel's own way can still be taken, with the registers as they came. Out it goes as at any exit: DEPTH is given up,
//! the word comes from CELL, and the check follows the write.
//!
//! A way into another view loads its root too. MOV CR3 is in the vault alone (`mem::vault`), which is opened for the length of
//! it: by a store to this CPU's own page table and INVLPG, as in Rust.

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

/// Decides whether the call may go in by the connection at RDX: the thread is in the domain that has it, the activation
/// is free, the chain of calls has room. Leaves the activation in RCX, the place for a frame in RAX.
macro_rules! decide {
    () => {
        concat!(
            "mov rax, [rbp+.LpOWNER]\ncmp rax, [rdx+.LcOWNER]\njne 1f\n",
            "mov rcx, [rdx+.LcACT]\n",
            "cmp dword ptr [rcx+.LaAVAIL], 0\nje 1f\n",
            "mov rax, [rbp+.LpTOP]\ncmp rax, [rbp+.LpLIMIT]\njae 1f\n",
        )
    };
}

/// The caller's side into the frame at RAX, for the activation at RCX. Uses RBX.
macro_rules! put_frame {
    () => {
        concat!(
            "mov dword ptr [rcx+.LaAVAIL], 0\n",
            "inc qword ptr [rcx+.LaCALLS]\n",
            "inc qword ptr [rbp+.LpWAYS]\n",
            "mov rbx, [.LREC+.LrRSP]\nmov [rax+.LfRSP], rbx\n",
            "mov rbx, [rbp+.LpOWNER]\nmov [rax+.LfOWNER], rbx\n",
            "mov rbx, [rbp+.LpWORD]\nmov [rax+.LfWORD], rbx\n",
            "mov [rax+.LfACT], rcx\n",
        )
    };
}

/// The thread is the server's, from the connection at RDX; RCX still names the activation. Uses RAX, RBX.
macro_rules! be_server {
    () => {
        concat!(
            "mov rbx, [rdx+.LcSERVER]\nmov [rbp+.LpOWNER], rbx\n",
            "add rcx, .LaWORD\nmov [rbp+.LpWORD], rcx\n",
            "mov eax, [rcx]\nmov [.LCELLALIAS], eax\n",
        )
    };
}

/// Goes in at the entry of the connection at RDX.
macro_rules! go_in {
    () => {
        concat!(
            "mov rbp, [rdx+.LcENTRY]\n",
            "mov r15, [rdx+.LcBADGE]\n",
            "mov rbx, [rdx+.LcCOOKIE]\n",
            "mov rsp, [rdx+.LcSTACK]\n",
            leave!(),
            "sti\n",
            "jmp rbp\n",
        )
    };
}

/// The thread is the caller's again whose frame is at RAX, which is the last one. Uses RCX, RDX.
macro_rules! take_frame {
    () => {
        concat!(
            "sub rax, .LfBYTES\nmov [rbp+.LpTOP], rax\n",
            "mov rcx, [rbp+.LpLOWEST]\ncmp rax, rcx\ncmovb rcx, rax\nmov [rbp+.LpLOWEST], rcx\n",
            "inc qword ptr [rbp+.LpWAYS]\n",
            "mov rcx, [rax+.LfACT]\nmov dword ptr [rcx+.LaAVAIL], 1\n",
            "mov rdx, [rax+.LfOWNER]\nmov [rbp+.LpOWNER], rdx\n",
            "mov rdx, [rax+.LfWORD]\nmov [rbp+.LpWORD], rdx\n",
            "mov ecx, [rdx]\nmov [.LCELLALIAS], ecx\n",
        )
    };
}

/// Goes back behind the call of the caller whose stack pointer is in RSP.
macro_rules! go_back {
    () => {
        concat!("xor r15d, r15d\nxor ebx, ebx\nxor ebp, ebp\n", leave!(), "sti\n", "jmp {landing}\n",)
    };
}

/// Loads the root in RAX, in the vault, which can be executed meanwhile. RSP is the kernel's. Uses RBX, RCX.
macro_rules! load_root {
    () => {
        concat!(
            "mov [rbp+.LpROOT], rax\n",
            "inc qword ptr [rbp+.LpLOADED]\n",
            "mov rcx, [rbp+.LpVAULT]\n",
            "mov rbx, [rbp+.LpOPEN]\nmov [rcx], rbx\n",
            "invlpg [.LVAULT]\n",
            "call {vault}\n",
            "mov rbx, [rbp+.LpSHUT]\nmov [rcx], rbx\n",
            "invlpg [.LVAULT]\n",
        )
    };
}

stub! {
    /// A call through a handle that this CPU remembers, to an activation that is free. A connection into another view
    /// is kept under the complement of the handle: so calls inside a view do not pay for the question.
    ".entry" pass_call [
        gate_bad = gate_bad, common = gate_common, vault = __vault_start_there, presence = crate::lock::PRESENCE
    ]
    begin!(),
    "mov eax, r15d\nand eax, .LcMASK\nshl eax, .LcSHIFT\nlea rdx, [rbp+rax+.LpCONN]",
    "cmp r15, [rdx+.LcHANDLE]\njne 3f",
    decide!(),
    put_frame!(),
    "add rax, .LfBYTES\nmov [rbp+.LpTOP], rax",
    be_server!(),
    go_in!(),
    "3:",
    "mov rax, r15\nnot rax\ncmp rax, [rdx+.LcHANDLE]\njne 1f",
    decide!(),
    put_frame!(),
    // Its reply finds no frame above the base.
    "mov rbx, [rbp+.LpBASE]\nmov [rax+.LfBASE], rbx",
    "mov rbx, [rbp+.LpROOT]\nmov [rax+.LfROOT], rbx",
    "add rax, .LfBYTES\nmov [rbp+.LpTOP], rax\nmov [rbp+.LpBASE], rax",
    be_server!(),
    "mov rax, [rdx+.LcROOT]",
    load_root!(),
    go_in!(),
    the_kernels_way!("0x100"),
}

stub! {
    /// A reply to a call that has a frame. One out of the view in which the caller is has it below the base.
    ".entry" pass_reply [
        gate_bad = gate_bad, common = gate_common, landing = gate_landing, vault = __vault_start_there,
        presence = crate::lock::PRESENCE
    ]
    begin!(),
    "mov rax, [rbp+.LpTOP]\ncmp rax, [rbp+.LpBASE]\nje 3f",
    take_frame!(),
    "mov rsp, [rax+.LfRSP]",
    go_back!(),
    "3:",
    "lea rdx, [rbp+.LpFRAMES]\ncmp rax, rdx\nje 1f",
    take_frame!(),
    "mov rcx, [rax+.LfBASE]\nmov [rbp+.LpBASE], rcx",
    "mov rdx, rax\nmov rax, [rdx+.LfROOT]",
    load_root!(),
    "mov rsp, [rdx+.LfRSP]",
    go_back!(),
    the_kernels_way!("0x101"),
}

unsafe extern "C" {
    /// The first routine of the vault's text ([`root::pass_root`](super::super::root)), where the vault shows it.
    fn __vault_start_there();
}
