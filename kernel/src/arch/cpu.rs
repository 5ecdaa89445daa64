//! What this CPU has, and the state that every CPU gets: what the kernel needs on, everything else that could lift
//! a domain over its wall off (design: switch features off instead of scanning for them).

use super::insn::{self, init};
use super::protection::Protection;
use core::arch::x86_64::__cpuid_count;
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

/// IA32_EFER (Intel SDM vol. 4, table 2-2), as the next.
pub(super) const IA32_EFER: u32 = 0xc000_0080;
/// The segment that SYSENTER loads; 0 makes it #GP.
pub(super) const IA32_SYSENTER_CS: u32 = 0x174;
/// Where the local APIC is, and its mode.
pub(super) const IA32_APIC_BASE: u32 = 0x1b;

/// What CPUID says of this CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    /// Protection keys for supervisor pages: CPUID.(7,0):ECX[31].
    pub(crate) pks: bool,
    /// Protection keys for user pages: CPUID.(7,0):ECX[3].
    pub(crate) pku: bool,
    /// CPUID.(7,0):EBX[7].
    smep: bool,
    /// CPUID.(7,0):ECX[2].
    umip: bool,
    /// 1 GiB pages: CPUID.80000001H:EDX[26].
    pub(crate) gib_pages: bool,
    /// CPUID.80000001H:EDX[20].
    no_execute: bool,
}

/// Reads CPUID.
pub(crate) fn features() -> Features {
    let leaf = |number, sub| __cpuid_count(number, sub);
    let highest = leaf(0, 0).eax;
    let (ebx, ecx) = if highest >= 7 { (leaf(7, 0).ebx, leaf(7, 0).ecx) } else { (0, 0) };
    let extended = if leaf(0x8000_0000, 0).eax >= 0x8000_0001 { leaf(0x8000_0001, 0).edx } else { 0 };
    Features {
        pks: ecx & (1 << 31) != 0,
        pku: ecx & (1 << 3) != 0,
        smep: ebx & (1 << 7) != 0,
        umip: ecx & (1 << 2) != 0,
        gib_pages: extended & (1 << 26) != 0,
        no_execute: extended & (1 << 20) != 0,
    }
}

/// Sets the control registers: paging as it is; WP, EM, SMEP, UMIP, MCE, DE on where the CPU has them; x87, SSE,
/// XSAVE, FSGSBASE, keys, SMAP, counters, VMX, SMX, global pages, SYSCALL and SYSENTER off. SMEP is off where the
/// kernel's own pages have U/S set.
///
/// # Safety
/// Runs once on each CPU, on the kernel's own page tables, before keys are switched on.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn set_control_registers(features: Features, protection: Protection) {
    let cr0 = Cr0Flags::from_bits_retain(init::read_cr0());
    let cr0 = (cr0 | Cr0Flags::WRITE_PROTECT | Cr0Flags::EMULATE_COPROCESSOR) - Cr0Flags::MONITOR_COPROCESSOR;
    // SAFETY: paging and long mode stay as they are.
    unsafe { init::write_cr0(cr0.bits()) };

    let kept = Cr4Flags::from_bits_retain(insn::read_cr4())
        & (Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::L5_PAGING);
    let mut cr4 = kept | Cr4Flags::DEBUGGING_EXTENSIONS | Cr4Flags::MACHINE_CHECK_EXCEPTION;
    let smep = features.smep && !protection.covers_user_pages();
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, smep);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    // SAFETY: every bit is architectural in long mode or was asked of CPUID.
    unsafe { init::write_cr4(cr4.bits()) };

    // LME and LMA stay; SCE goes, so that SYSCALL is #UD; NXE where the CPU has it.
    // SAFETY: EFER exists in long mode; LMA is kept.
    unsafe {
        let nxe = if features.no_execute { 1 << 11 } else { 0 };
        init::write_msr(IA32_EFER, (insn::read_msr(IA32_EFER) & !1) | nxe);
        init::write_msr(IA32_SYSENTER_CS, 0);
    }
}

/// Whether the CPU can forbid execution; without that there is no W^X.
pub(crate) fn can_forbid_execution(features: Features) -> bool {
    features.no_execute
}

/// Where the local APIC's registers lie, and whether firmware left it in x2APIC mode (in which a single WRMSR could
/// send INIT to another CPU).
pub(crate) fn local_apic_base() -> (u64, bool) {
    // SAFETY: IA32_APIC_BASE exists on every CPU with a local APIC, and long mode implies one in practice.
    let base = unsafe { insn::read_msr(IA32_APIC_BASE) };
    (base & 0x000f_ffff_ffff_f000, base & (1 << 10) != 0)
}
