//! Instructions that a domain is not meant to have, out of the middle of others.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;

crimes! {
    "divide_error": "divide by zero",
        Nothing => Ends(FaultKind::Exception(0)), Binary [TrapFrame],
        "an exception is its domain's end";
    "undefined_instruction": "execute UD2",
        Nothing => Ends(FaultKind::Exception(6)), Binary [TrapFrame],
        "the same";
    "breakpoint": "execute INT3",
        Nothing => Ends(FaultKind::Exception(3)), Binary [TrapFrame],
        "the same";
    "panic": "panic",
        Nothing => Ends(FaultKind::Panic), Binary [Records],
        "the same";
    "syscall": "execute SYSCALL",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "EFER.SCE is clear";
    "sysret": "execute SYSRET, which would load a flat segment of ring 3",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "EFER.SCE is clear";
    "sysenter": "execute SYSENTER",
        Nothing => EndsSomehow, Binary [EscapeBytes],
        "SYSENTER_CS is 0";
    "sysexit": "execute SYSEXIT",
        Nothing => EndsSomehow, Binary [EscapeBytes],
        "SYSENTER_CS is 0";
    "vmcall": "execute VMCALL",
        Nothing => EndsSomehow, Binary [EscapeBytes],
        "CR4.VMXE is clear",
        left "under a hypervisor that serves the call it is the hypervisor's to say";
    "vmxon": "execute VMXON",
        Nothing => EndsSomehow, Binary [EscapeBytes],
        "CR4.VMXE is clear";
    "getsec": "execute GETSEC",
        Nothing => EndsSomehow, Binary [EscapeBytes],
        "CR4.SMXE is clear";
    "rsm": "execute RSM",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "it is none outside of SMM";
    "xrstor": "execute XRSTOR with a mask of everything",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "CR4.OSXSAVE is clear";
    "xgetbv": "execute XGETBV",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "CR4.OSXSAVE is clear";
    "wrgsbase": "execute WRGSBASE",
        Nothing => Ends(FaultKind::Exception(6)), Binary [EscapeBytes],
        "CR4.FSGSBASE is clear";
    "sse": "use an XMM register, which the kernel does not save",
        Nothing => Ends(FaultKind::Exception(6)), Binary [Leftovers EscapeBytes],
        "CR4.OSFXSR is clear: there is no such state to leak";
    "x87": "use the x87 unit, which the kernel does not save",
        Nothing => Ends(FaultKind::Exception(7)), Binary [Leftovers EscapeBytes],
        "CR0.EM is set";
    "clts_then_x87": "clear CR0.TS, then use the x87 unit",
        Nothing => Ends(FaultKind::Exception(7)), Binary [Leftovers EscapeBytes],
        "EM does it, not TS";
    "wbinvd": "write all caches back",
        Nothing => Harmless, Binary [EscapeBytes],
        "nothing is lost by it",
        left "it takes time from all CPUs";
    "monitor_mwait": "wait with MONITOR and MWAIT",
        Nothing => Contained, Binary [EscapeBytes],
        "an interrupt ends it, or there is no such instruction";
    "read_descriptor_tables": "read GDTR, IDTR, TR, LDTR, then the tables",
        Nothing => Harmless, Binary [Tables],
        "what they tell is no secret, and read-only";
    "far_jumps": "jump and call far through every selector and some that do not exist",
        Numbers(&[0x00, 0x08, 0x10, 0x18, 0x1b, 0x20, 0x28, 0xfff8]) => EndsSomehow, Binary [Tables EscapeBytes],
        "the GDT has one code segment, of ring 0 and 64 bits, no gate and no task to switch to";
}
