//! Jumps to the kernel's text. They are made by a thread that is in no call, so that what looks like a reply is none.

use core::arch::x86_64::__cpuid_count;

use libpks::abi::layout::{GATE_SYSCALL, GATE_WRITE_OFFSET, KERNEL_BASE};

use crate::act::{Hidden, Registers, at_home, escaped, landing, leap, prove, slot_tops, text_offset, write};
use crate::{Case, Loot, Outcome, unless};

/// The word that opens every key, the one that closes every key, and the kernel's own (docs/memory-and-keys.md).
const OPEN_WORD: u64 = 0;
const CLOSED_WORD: u64 = 0x5555_5555;
const KERNEL_WORD: u64 = libpks::pkey::Pkrs::KERNEL.raw() as u64;
const IA32_PKRS: u64 = 0x6e1;
const IA32_EFER: u64 = 0xc000_0080;
const IA32_PAT: u64 = 0x277;
/// EFER.SCE.
const SYSCALL_ON: u64 = 1;
/// All memory uncached.
const UNCACHED: u64 = 0;
/// Bytes from one gate to the next, and of the stubs behind them.
const GATE_BYTES: u64 = 0x80;
const STUBS: u64 = KERNEL_BASE + 3 * GATE_BYTES;
const STUB_BYTES: u64 = 16;
/// Segments of the GDT, which all may read; a flag that is always set, and that of interrupts.
pub(crate) const CODE: u64 = 0x08;
pub(crate) const DATA: u64 = 0x10;
pub(crate) const FLAGS: u64 = 0x202;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let (target, witness) = (case.target, case.witness);
    let start = |rip| Registers { rip, rbx: witness, rdi: target, rsi: u64::MAX, ..Registers::default() };
    let word = |rax| Registers { rax, rcx: number_of_the_word(), ..start(target) };
    let home = |registers: Registers| at_home(case.means.priority, move || leap_and_prove(registers));
    let by_frame = |rax| {
        let registers = word(rax);
        at_home(case.means.priority, move || leap_by_frame(registers))
    };
    Some(match case.name {
        "jump_into_gate" => home(start(GATE_SYSCALL + 0x21)),
        "jump_to_gate_bytes"
        | "rdmsr_sites"
        | "call_kernel_functions"
        | "jump_to_landing"
        | "call_instructions" => home(start(target)),
        "jump_past_gates" => home(start(STUBS)),
        "run_every_text" => home(start(target + text_offset())),
        "wrmsr_open_word" => home(word(OPEN_WORD)),
        "wrmsr_kernel_word" => home(word(KERNEL_WORD)),
        "close_key_0" | "close_key_0_at_exit" => home(word(CLOSED_WORD)),
        "wrmsr_of_the_exit" => by_frame(OPEN_WORD),
        "wrmsr_kernel_word_at_exit" => by_frame(KERNEL_WORD),
        "wrmsr_own_word_at_exit" => by_frame(own_word()),
        "wrmsr_efer" => another_register(case, IA32_EFER, SYSCALL_ON),
        "wrmsr_pat" => another_register(case, IA32_PAT, UNCACHED),
        "wrmsr_others" => {
            let registers = Registers { rcx: target, ..start(GATE_SYSCALL + GATE_WRITE_OFFSET) };
            at_home(case.means.priority, move || leap_and_prove(registers))
        }
        _ => return None,
    })
}

/// Where the stub of a vector begins.
pub(crate) const fn stub_of(vector: u64) -> u64 {
    STUBS + STUB_BYTES * vector
}

fn leap_and_prove(registers: Registers) -> Outcome {
    leap(&registers);
    prove(registers.rbx)
}

/// The same, and for a way out that ends in IRETQ a frame that leads back here.
fn leap_by_frame(registers: Registers) -> Outcome {
    let stack = [landing(); 16];
    let top = (&raw const stack[8]).expose_provenance() as u64;
    for slot in slot_tops() {
        forge(slot, escaped(), FLAGS, top);
    }
    // It comes back through `escaped`, or by the RET at which a gate is left: under whatever word it has then.
    leap(&registers);
    prove(registers.rbx)
}

/// Writes a frame into a trap slot, as the CPU and the stubs lay it out.
pub(crate) fn forge(slot: u64, rip: u64, flags: u64, rsp: u64) {
    let frame = [(40, rip), (32, CODE), (24, flags), (16, rsp), (8, DATA)];
    frame.into_iter().for_each(|(offset, value)| write(slot - offset, value));
}

/// Whether PKU checks the keys: CPUID.(EAX=7,ECX=0):ECX.OSPKE says what CR4.PKE is (Intel SDM vol. 2A, CPUID).
fn is_pku() -> bool {
    __cpuid_count(7, 0).ecx & 1 << 4 != 0
}

/// What ECX must be where the entry code writes the rights word: WRPKRU wants 0.
fn number_of_the_word() -> u64 {
    if is_pku() { 0 } else { IA32_PKRS }
}

fn own_word() -> u64 {
    match is_pku() {
        true => leap(&Registers { rip: Hidden::Rdpkru.address(), ..Registers::default() }).rax,
        false => read_register(IA32_PKRS),
    }
}

pub(crate) fn read_register(register: u64) -> u64 {
    let after = leap(&Registers { rip: Hidden::Rdmsr.address(), rcx: register, ..Registers::default() });
    after.rax | after.rdx << 32
}

/// Writes a register by a jump to a WRMSR; asked with 0 for the target, looks whether it has what it should not.
fn another_register(case: &Case<'_>, register: u64, bad: u64) -> Outcome {
    let site = case.target;
    let value = read_register(register);
    if site == 0 {
        let lasts = if register == IA32_EFER { value & bad != 0 } else { value == bad };
        return unless(lasts, value);
    }
    let value = if register == IA32_EFER { value | bad } else { bad };
    let registers = Registers {
        rip: site,
        rax: value & 0xffff_ffff,
        rdx: value >> 32,
        rcx: register,
        ..Registers::default()
    };
    at_home(case.means.priority, move || Ok(Loot::Got(leap(&registers).rax)))
}
