//! Model-specific registers that a jump to a WRMSR can have written before its check, and how they are put right.
//!
//! A domain that jumps to a WRMSR of the entry code with another number in ECX has written that register before the
//! comparison sees it. It gets no second instruction: the check, or a trap that it arranged to come first, leads into the
//! kernel. There each register of [`WATCHED`] is compared with what this CPU had at the end of bring-up, and written
//! back. So no such write outlasts the event, and none can be combined with a next one. docs/traps.md lists what cannot be
//! put right.

use super::cpu::{IA32_APIC_BASE, IA32_EFER, IA32_SYSENTER_CS};
use super::{apic, insn, window};
use crate::boot::MAX_CPUS;
use crate::mem::vault;
use core::arch::naked_asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU64, Ordering};

const IA32_TSC_ADJUST: u32 = 0x3b;
const IA32_SPEC_CTRL: u32 = 0x48;
const IA32_MCG_STATUS: u32 = 0x17a;
const IA32_DEBUGCTL: u32 = 0x1d9;
const IA32_PAT: u32 = 0x277;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
const IA32_PERF_GLOBAL_CTRL: u32 = 0x38f;
const IA32_RTIT_CTL: u32 = 0x570;

/// Bits of IA32_APIC_BASE.
const X2APIC: u64 = 1 << 10;
const APIC_ON: u64 = 1 << 11;

/// What to ask of CPUID: leaf, register, the least value of the masked bits.
enum Presence {
    /// In every CPU with long mode.
    Always,
    /// Where a bit of leaf 1's EDX is set.
    Leaf1Edx(u32),
    /// Where a bit of leaf 7's EBX is set.
    Leaf7Ebx(u32),
    /// Where a bit of leaf 7's EDX is set.
    Leaf7Edx(u32),
    /// Where leaf 10 tells of version 2 of the performance counters.
    Counters,
    /// On CPUs whose maker is known to have it.
    IntelOrAmd,
}

/// Numbers as in the Intel SDM vol. 4, table 2-2. EFER comes first: the others need it right.
const WATCHED: [(u32, Presence); 11] = [
    // SYSCALL on; NX off, which is past help.
    (IA32_EFER, Presence::Always),
    // SYSENTER on.
    (IA32_SYSENTER_CS, Presence::Always),
    // Off, elsewhere, or in the mode in which one WRMSR sends INIT.
    (IA32_APIC_BASE, Presence::Always),
    // A machine check in progress, which the next INT 18 would be taken for.
    (IA32_MCG_STATUS, Presence::Leaf1Edx(14)),
    // Memory uncached, or cached where devices are.
    (IA32_PAT, Presence::Always),
    (IA32_MTRR_DEF_TYPE, Presence::Leaf1Edx(12)),
    // The time: a write of the TSC changes it too (Intel SDM vol. 3B, 18.17.3).
    (IA32_TSC_ADJUST, Presence::Leaf7Ebx(1)),
    // A trace that the CPU writes to physical memory.
    (IA32_RTIT_CTL, Presence::Leaf7Ebx(25)),
    (IA32_DEBUGCTL, Presence::IntelOrAmd),
    (IA32_PERF_GLOBAL_CTRL, Presence::Counters),
    // Mitigations off.
    (IA32_SPEC_CTRL, Presence::Leaf7Edx(26)),
];

/// Of each CPU: what the registers held, and in the last word which of them it has.
static RECORDED: [[AtomicU64; WATCHED.len() + 1]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; WATCHED.len() + 1] }; MAX_CPUS];

impl Presence {
    fn is_here(&self) -> bool {
        let leaf = |number| __cpuid_count(number, 0);
        let maker = (leaf(0).ebx, leaf(0).edx, leaf(0).ecx);
        let intel = maker == (0x756e_6547, 0x4965_6e69, 0x6c65_746e);
        let amd = maker == (0x6874_7541, 0x6974_6e65, 0x444d_4163);
        let highest = leaf(0).eax;
        match *self {
            Presence::Always => true,
            Presence::Leaf1Edx(bit) => leaf(1).edx >> bit & 1 != 0,
            Presence::Leaf7Ebx(bit) => highest >= 7 && leaf(7).ebx >> bit & 1 != 0,
            Presence::Leaf7Edx(bit) => highest >= 7 && leaf(7).edx >> bit & 1 != 0,
            Presence::Counters => intel && highest >= 10 && leaf(10).eax & 0xff >= 2,
            Presence::IntelOrAmd => intel || amd,
        }
    }
}

/// Notes what this CPU has, at the end of its bring-up.
#[unsafe(link_section = ".init.text")]
pub(crate) fn record() {
    let [values @ .., here] = &RECORDED[window::cpu()];
    for (n, ((register, presence), value)) in WATCHED.iter().zip(values).enumerate() {
        if presence.is_here() {
            // SAFETY: CPUID says that the register exists.
            value.store(unsafe { insn::read_msr(*register) }, Ordering::Relaxed);
            here.fetch_or(1 << n, Ordering::Relaxed);
        }
    }
}

/// Writes back what differs. Called at the start of an event that interrupted entry code: the current thread may have come
/// from one of its WRMSRs. Gives whether it has: none of these registers changes by itself.
pub(crate) fn put_right() -> bool {
    let mut wrong = false;
    let [values @ .., here] = &RECORDED[window::cpu()];
    let here = here.load(Ordering::Relaxed);
    for (_, ((register, _), value)) in
        WATCHED.iter().zip(values).enumerate().filter(|(n, _)| here >> n & 1 != 0)
    {
        let value = value.load(Ordering::Relaxed);
        // SAFETY: the register existed at bring-up.
        let found = unsafe { insn::read_msr(*register) };
        if found == value {
            continue;
        }
        wrong = true;
        if *register == IA32_APIC_BASE {
            put_apic_right(found, value);
        } else {
            write(*register, value);
        }
    }
    wrong
}

/// From x2APIC mode the way back leads over "off" (Intel SDM vol. 3A, 11.12.5), and an APIC that was off has forgotten
/// how it was set up.
fn put_apic_right(found: u64, value: u64) {
    if found & X2APIC != 0 {
        write(IA32_APIC_BASE, value & !(APIC_ON | X2APIC));
    }
    write(IA32_APIC_BASE, value);
    apic::start();
}

/// WRMSR, in the vault. EDI the register, ESI and EDX the halves of the value.
///
/// # Safety
/// The register exists and the value breaks none of the kernel's assumptions.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn write_msr(register: u32, low: u32, high: u32) {
    naked_asm!("mov ecx, edi", "mov eax, esi", "wrmsr", "ret")
}

fn write(register: u32, value: u64) {
    type WriteMsr = unsafe extern "C" fn(u32, u32, u32);
    vault::run(write_msr as WriteMsr, |write| {
        // SAFETY: the value is one that the kernel has run with since bring-up, or on the way there.
        unsafe { write(register, value as u32, (value >> 32) as u32) }
    });
}
