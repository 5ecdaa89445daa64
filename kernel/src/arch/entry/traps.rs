//! One stub a vector, the event levels, and what happens when a check fails.

use super::super::record::{self, Record};
use super::super::window;
use super::exit::trap_exit;
use super::nmi::nmi_entry;
use super::*;
use crate::trap::{kernel_event, kernel_nested, kernel_stop, kernel_too_deep};

/// An event level: the slot's registers are saved, the kernel's word is written and checked, DEPTH is committed.
/// At DEPTH > 0 the kernel itself was interrupted.
macro_rules! event_level {
    ($(#[$meta:meta])* $name:ident, $slot:literal, $level:literal, $nested:path) => {
        stub! {
            $(#[$meta])*
            ".entry" $name [gate_bad = gate_bad, nested = $nested, event = kernel_event, exit = trap_exit]
            save3!($slot),
            take_evidence!($slot),
            write_and_commit!(),
            own_stack!("KSTK"),
            save_rest!(".LREC"),
            take_slot!($slot, ".LREC"),
            concat!("mov qword ptr [.LREC+.LrLVL], ", $level),
            "mov rdi, .LREC",
            "xor ebp, ebp",
            "call {event}",
            "jmp {exit}",
        }
    };
}

/// The way in of a trap inside the kernel. DEPTH is raised, not set, and says which of the nested stacks is this
/// trap's own: so what was interrupted, and why, matters to none of them. The record lies at the top of that stack.
macro_rules! nest {
    ($slot:literal, $level:literal) => {
        concat!(
            "inc dword ptr [.LDEPTH]\n",
            "mov eax, [.LDEPTH]\n",
            "cmp eax, .LDEEPEST\n",
            "ja {too_deep}\n",
            "shl eax, .LXSHIFT\n",
            "lea rsp, [rax+.LXREC]\n",
            "push 2\npopfq\n",
            save_rest!("rsp"),
            take_slot!($slot, "rsp"),
            "mov qword ptr [rsp+.LrLVL], ",
            $level,
            "\nmov rdi, rsp\nxor ebp, ebp\n",
        )
    };
}

/// A trap inside the kernel that may be mended: PKRS stays, and what was interrupted goes on.
macro_rules! nested_level {
    ($(#[$meta:meta])* $name:ident, $slot:literal, $level:literal) => {
        stub! {
            $(#[$meta])*
            ".entry" $name [nested = kernel_nested, too_deep = nested_too_deep]
            nest!($slot, $level),
            "call {nested}",
            put_slot!($slot, "rsp", "0x200cd5", "0x10002"),
            load_rest!("rsp"),
            "dec dword ptr [.LDEPTH]",
            load3!($slot),
            concat!("mov rsp, .L", $slot, "-40"),
            "iretq",
        }
    };
}

/// A trap inside the kernel that has no good reason: the machine stops.
macro_rules! deadly_level {
    ($(#[$meta:meta])* $name:ident, $slot:literal, $level:literal) => {
        stub! {
            $(#[$meta])*
            ".entry" $name [stop = kernel_stop, too_deep = nested_too_deep]
            nest!($slot, $level),
            "call {stop}",
        }
    };
}

event_level! {
    /// #DF.
    level2, "S2", "2", nested2
}
event_level! {
    /// #MC, or INT 18.
    level3, "S3", "3", nested3
}
event_level! {
    /// #DB.
    level4, "S4", "4", nested4
}
event_level! {
    /// All other exceptions.
    level5, "S5", "5", nested5
}
event_level! {
    /// Interrupts.
    level6, "S6", "6", nested6
}
deadly_level! {
    /// #DF inside the kernel.
    nested2, "S2", "2"
}
nested_level! {
    /// #MC inside the kernel: a real one stops the machine.
    nested3, "S3", "3"
}
nested_level! {
    /// #DB inside the kernel: also a TF that came in before POPFQ. It leaves without TF.
    nested4, "S4", "4"
}
nested_level! {
    /// A fault inside the kernel: a probe's, or a bug.
    nested5, "S5", "5"
}
deadly_level! {
    /// An interrupt inside the kernel: a bug, for interrupts are off there. A check that fails inside the kernel
    /// comes here too.
    nested6, "S6", "6"
}

stub! {
    /// More traps inside one another than there are stacks. Whatever comes yet comes here again.
    ".entry" nested_too_deep [stop = kernel_too_deep]
    own_stack!("DEEPSTK"),
    "xor ebp, ebp",
    "call {stop}",
}

stub! {
    /// One entry of 16 bytes for each vector: its number goes into the slot.
    ".entry.vectors" vectors [nmi = nmi_entry, l2 = level2, l3 = level3, l4 = level4, l5 = level5, l6 = level6]
    ".set trap_vector, 0",
    ".rept 256",
    ".p2align 4",
    ".if trap_vector == 1",
    "mov byte ptr [.LS4-96], 1",
    "jmp {l4}",
    ".elseif trap_vector == 2",
    "jmp {nmi}",
    ".elseif trap_vector == 8",
    "mov byte ptr [.LS2-96], 8",
    "jmp {l2}",
    ".elseif trap_vector == 18",
    "mov byte ptr [.LS3-96], 18",
    "jmp {l3}",
    ".elseif trap_vector < 32",
    "mov byte ptr [.LS5-96], trap_vector",
    "jmp {l5}",
    ".else",
    "mov byte ptr [.LS6-96], trap_vector",
    "jmp {l6}",
    ".endif",
    ".set trap_vector, trap_vector+1",
    ".endr",
}

/// Address of the stub of vector 0; the others follow, [`STUB_BYTES`] each.
pub(crate) fn vectors_address() -> u64 {
    vectors as *const () as u64
}

/// Bytes of a vector's stub.
pub(crate) const STUB_BYTES: u64 = 16;

stub! {
    /// A check failed: takes the kernel's word again, commits, and blames the current thread's domain.
    ".entry" gate_bad [gate_bad = gate_bad, nested = nested6, event = kernel_event, exit = trap_exit]
    pkrs_number!("mov ecx, .LPKRS"),
    "xor edx, edx",
    "mov rax, [.LKERNEL]",
    write_and_commit!(),
    own_stack!("KSTK"),
    "mov qword ptr [.LREC+.LrVEC], 0x103",
    "mov rdi, .LREC",
    "xor ebp, ebp",
    "call {event}",
    "jmp {exit}",
}
