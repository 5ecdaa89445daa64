//! Jumps to the kernel's text, with registers of the adversary's choice. Where the jump comes back, the adversary reads the
//! witness: what it then can read it has got.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;
use crate::abi::inspect::PlaceKind;
use crate::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, GATE_WRITE_OFFSET};

/// IA32_APIC_BASE and others that the kernel does not put right are not among them (docs/traps.md).
const REGISTERS: &[u64] = &[
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0084, // FMASK
    0xc000_0100, // FS_BASE
    0xc000_0101, // GS_BASE
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
];

const BYTES: usize = 0x50;

/// Every byte of the system call gate's code but its start, and some of the other two.
const GATE_BYTES: [u64; BYTES + 8] = {
    let mut bytes = [0; BYTES + 8];
    let mut n = 0;
    while n < BYTES {
        bytes[n] = GATE_SYSCALL + 1 + n as u64;
        n += 1;
    }
    while n < BYTES + 4 {
        bytes[n] = GATE_CALL + GATE_WRITE_OFFSET + 7 * (n - BYTES) as u64;
        bytes[n + 4] = GATE_REPLY + GATE_WRITE_OFFSET + 7 * (n - BYTES) as u64;
        n += 1;
    }
    bytes
};

crimes! {
    "jump_into_gate": "jump to the middle of a gate with made-up registers",
        Nothing => EndsSomehow, Binary [Gate],
        "DEPTH is under the kernel's key: its store faults under any other word";
    "jump_to_gate_bytes": "jump to every byte of a gate, registers full of a word that opens everything",
        Numbers(&GATE_BYTES) => EndsSomehow, Binary [Gate],
        "before the WRMSR it is a gate; behind it the compare, then DEPTH",
        left "the same for every byte of the entry code: the sweep";
    "jump_past_gates": "jump to where a gate would be, had there been one more",
        Nothing => EndsSomehow, Binary [Gate],
        "there is the stub of vector 0: an allegation against the domain itself";
    "wrmsr_open_word": "jump to every WRMSR of the entry code with the word that opens all keys",
        Places(PlaceKind::TakesWord) => Ends(FaultKind::GateAbuse), Binary [Gate EscapeBytes],
        "EAX is compared behind each: only one word passes, the kernel's";
    "wrmsr_kernel_word": "the same with the kernel's own word",
        Places(PlaceKind::TakesWord) => EndsSomehow, Binary [Gate TrapFrame],
        "it passes the compare and commits DEPTH: an event with a forged record, restored under the domain's own word";
    "wrmsr_of_the_exit": "jump to the WRMSR of the ways out with the open word, a forged frame for IRETQ behind it",
        Places(PlaceKind::GivesWord) => Ends(FaultKind::GateAbuse), Binary [Gate TrapFrame],
        "EAX is compared with CELL, which only the kernel writes";
    "wrmsr_kernel_word_at_exit": "the same with the kernel's word",
        Places(PlaceKind::GivesWord) => Ends(FaultKind::GateAbuse), Binary [Gate TrapFrame],
        "the same";
    "wrmsr_own_word_at_exit": "the same with its own word",
        Places(PlaceKind::GivesWord) => EndsSomehow, Binary [Gate TrapFrame],
        "it passes, and IRETQ leads to where the domain could have jumped, with what it had";
    "wrmsr_efer": "jump to a WRMSR with EFER in ECX and switch SYSCALL on, then look whether that lasts",
        Numbers(&[GATE_SYSCALL + GATE_WRITE_OFFSET, 0]) => Contained, Binary [Gate EscapeBytes],
        "ECX is compared behind the WRMSR; EFER is put right, the domain ends",
        left "EFER.NXE = 0 resets the machine";
    "wrmsr_pat": "the same with the PAT, then look",
        Numbers(&[GATE_SYSCALL + GATE_WRITE_OFFSET, 0]) => Contained, Binary [Gate EscapeBytes],
        "the PAT is put right, the domain ends";
    "wrmsr_others": "the same with the registers of SYSENTER, SYSCALL, FS, GS",
        Numbers(REGISTERS) => EndsSomehow, Binary [Gate EscapeBytes],
        "nothing of the kernel uses them; the domain ends",
        left "APIC base, TSC, MTRRs and MISC_ENABLE are not put right";
    "rdmsr_sites": "jump to every RDMSR of the entry code",
        Places(PlaceKind::ReadsWord) => EndsSomehow, Binary [Gate],
        "what was read is evidence at most, and the rest is the stub";
    "jump_to_landing": "jump to the RET where domains come out of a gate",
        Places(PlaceKind::Landing) => Ends(FaultKind::ProtectionKey), Binary [Gate SharedText],
        "it is a RET, with the domain's own rights";
    "call_kernel_functions": "call functions of the kernel with pointers to itself",
        Places(PlaceKind::Function) => EndsSomehow, Binary [SharedText Deputy],
        "they run under the domain's word and touch the kernel's data first";
    "call_instructions": "call the kernel's functions of one privileged instruction",
        Places(PlaceKind::Instruction) => Ends(FaultKind::ProtectionKey), Binary [SharedText],
        "those that stay mapped read what is no secret or drop a translation",
        left "IN and OUT reach ports; RDMSR reads registers, none of which is a secret";
    "jump_to_kernel_data": "jump to the kernel's data",
        Place("kernel variable") => EndsThere(FaultKind::Protection), Binary [Tables],
        "nothing is writable and executable";
}
