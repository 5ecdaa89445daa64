//! The gates: how a domain enters the kernel by its own will. They lie in the first page of the image, 128 bytes
//! each, in the order of `libpks::abi::layout`.

use super::super::record::{self, Record};
use super::super::window;
use super::exit::trap_exit;
use super::passing::{pass_call, pass_reply};
use super::traps::gate_bad;
use super::*;
use crate::trap::kernel_event;

/// One gate: as an event level, but the domain's three registers are not kept.
macro_rules! gate {
    ($($onward:literal),+) => {
        concat!(
            "endbr64\n",
            pkrs_number!("mov ecx, .LPKRS"),
            "xor edx, edx\n",
            "mov rax, [.LKERNEL]\n",
            write_pkrs!(),
            range_begin!(),
            bad_unless_written!("[.LKERNEL]"),
            "lfence\n",
            "cli\n",
            "mov dword ptr [.LDEPTH], 1\n",
            range_end!(),
            "mov [.LREC+.LrRSP], rsp\n",
            $($onward,)+
            ".p2align 7, 0xcc",
        )
    };
}

stub! {
    /// The gates in the order of the ABI: call, reply, system call.
    #[unsafe(no_mangle)]
    ".gates" gates [gate_bad = gate_bad, common = gate_common, call = pass_call, reply = pass_reply]
    gate!("jmp {call}\n"),
    gate!("jmp {reply}\n"),
    gate!("mov eax, 0x102\n", "jmp {common}\n"),
}

stub! {
    /// The part that all gates share: DEPTH is 1, RSP is still the domain's, EAX the vector.
    ".entry" gate_common [landing = gate_landing, event = kernel_event, exit = trap_exit]
    own_stack!("KSTK"),
    "mov [.LREC+.LrVEC], rax",
    save_rest!(".LREC"),
    "xor eax, eax",
    "mov [.LREC+.LrRAX], rax",
    "mov [.LREC+.LrRCX], rax",
    "mov [.LREC+.LrRDX], rax",
    "mov [.LREC+.LrPK], rax",
    "mov [.LREC+.LrLVL], rax",
    "mov qword ptr [.LREC+.LrERR], .LNOERR",
    "mov qword ptr [.LREC+.LrFL], 0x202",
    "lea rax, [rip + {landing}]",
    "mov [.LREC+.LrRIP], rax",
    "mov rdi, .LREC",
    "xor ebp, ebp",
    "call {event}",
    "jmp {exit}",
}

stub! {
    /// Where a domain that came through a gate continues.
    ".entry" gate_landing []
    "ret",
}

/// No code of the kernel refers to the gates: domains know their addresses.
#[used]
static KEEP: unsafe extern "C" fn() -> ! = gates;
