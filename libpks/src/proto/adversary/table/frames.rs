//! What the CPU and the stubs take for a frame, a stack, a trap.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;

/// Every vector of an exception but NMI, which is a crime of its own, and #DB and #BP, which others have.
const EXCEPTIONS: &[u64] = &[
    0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
];

crimes! {
    "stack_overflow": "recurse without end",
        Nothing => Ends(FaultKind::StackOverflow), Binary [Stack],
        "a page that is not mapped below each stack; the trap has a stack of its own";
    "int_exceptions": "execute INT n for every exception",
        Numbers(EXCEPTIONS) => EndsSomehow, Binary [TrapFrame NestedTrap],
        "blame follows from DEPTH and the current thread: it is the domain's own";
    "int_double_fault": "execute INT 8",
        Nothing => Ends(FaultKind::Exception(8)), Binary [TrapFrame NestedTrap],
        "the same";
    "int_machine_check": "execute INT 18",
        Nothing => Ends(FaultKind::Exception(18)), Binary [TrapFrame NestedTrap],
        "IA32_MCG_STATUS.MCIP says that there is no machine check";
    "int_nmi": "execute INT 2 a thousand times",
        Nothing => Contained, Binary [TrapFrame NestedTrap],
        "it is handled like an NMI; a true one that comes meanwhile finds it out, and ends the domain";
    "int_page_fault": "execute INT 14 with an error code of its own in the slot",
        Nothing => Contained, Binary [TrapFrame],
        "a report against itself at the most";
    "int_interrupts": "execute INT n for every vector that is no exception: timer, requests of other CPUs, devices",
        Nothing => Harmless, Binary [TrapFrame Device],
        "handlers do no more than a spurious interrupt would; the end of interrupt is written before anything else";
    "int_device_flood": "claim the interrupts of the serial ports a thousand times",
        Nothing => Harmless, Binary [TrapFrame Exhaustion Device],
        "a notification more is no harm to its driver",
        left "it takes time";
    "forged_return_address": "forge the frame in the slot of interrupts and jump to their stub: a return address that is not canonical",
        Nothing => Ends(FaultKind::GateAbuse), Binary [TrapFrame],
        "the way out looks at RIP before it is used";
    "forged_flags": "forge the flags in every slot, jump to a stub, look which of them come back",
        Nothing => Harmless, Binary [TrapFrame],
        "the way out masks them";
    "forged_slots": "fill all slots with noise, then be interrupted, call, and sleep",
        Nothing => Harmless, Binary [TrapFrame],
        "the CPU writes its frame anew each time, and only this CPU has that page";
    "iret_frames": "execute IRETQ with frames that no kernel makes: other rings, other segments, not canonical",
        Numbers(&[0, 1, 2, 3, 4, 5, 6, 7]) => EndsSomehow, Binary [TrapFrame EscapeBytes],
        "the GDT has nothing to return to but ring 0 in 64-bit mode";
    "iret_to_itself": "execute IRETQ to an instruction of its own, with NT, IOPL and AC set, then call the kernel",
        Nothing => Harmless, Binary [TrapFrame],
        "a gate takes its flags from constants";
    "pivot_foreign_fault": "raise #UD with RSP in another's stack",
        Caller => Ends(FaultKind::Exception(6)), Binary [TrapFrame Stack],
        "every vector has a stack from the IST: RSP is not used";
    "pivot_kernel_fault": "raise #UD with RSP in the kernel's stack",
        Place("event stack") => Ends(FaultKind::Exception(6)), Binary [TrapFrame Stack],
        "the same";
    "pivot_nowhere_fault": "raise #UD with RSP at an address that is not canonical",
        Nothing => Ends(FaultKind::Exception(6)), Binary [TrapFrame Stack],
        "the same";
    "pivot_foreign_int": "execute INT 33 with RSP in another's stack, and go on by it",
        Caller => Ends(FaultKind::ProtectionKey), Binary [TrapFrame Stack],
        "the same; RET then reads under the domain's own word";
    "pivot_foreign_gate": "enter a gate with RSP in another's stack",
        Caller => EndsThere(FaultKind::ProtectionKey), Binary [Gate Stack Deputy],
        "the kernel never uses RSP; the RET behind the gate does, under the domain's own word";
    "pivot_kernel_gate": "enter a gate with RSP in the kernel's stack",
        Place("event stack") => EndsThere(FaultKind::ProtectionKey), Binary [Gate Stack Deputy],
        "the same";
    "pivot_constants_gate": "enter a gate with RSP in the IDT",
        Place("idt") => EndsSomehow, Binary [Gate Stack],
        "the same: it returns to what the descriptor happens to say";
    "pivot_slot_gate": "enter a gate with RSP in a trap slot",
        Place("slot 5") => EndsSomehow, Binary [Gate Stack TrapFrame],
        "the same";
    "pivot_nowhere_gate": "enter a gate with RSP at an address that is not canonical",
        Nothing => EndsSomehow, Binary [Gate Stack],
        "the same: #SS or #GP at the RET, for which the domain answers";
    "thread_elsewhere": "start a thread whose first instruction is in another domain",
        EveryText => Refused(crate::abi::Error::InvalidArgument), Binary [Deputy SharedText],
        "the entry of a thread lies in its domain's slot";
}
