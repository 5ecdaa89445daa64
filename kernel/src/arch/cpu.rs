//! What this CPU has, and the state that every CPU gets: what the kernel needs on, everything else that could lift
//! a domain over its wall off (design: switch features off instead of scanning for them).

use super::entry::IA32_PKRS;
use super::insn::{self, init};
use core::arch::naked_asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU64, Ordering};
use libpks::pkey::Pkrs;
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

const IA32_EFER: u32 = 0xc000_0080;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_PAT: u32 = 0x277;

/// Registers that the kernel relies on and that a domain could write which jumps to a WRMSR of the entry code with
/// another number in ECX, and what they held at the end of bring-up. EFER comes first: the others need it right.
/// docs/traps.md tells what is not put right.
static RELIED_ON: [(u32, AtomicU64); 3] =
    [(IA32_EFER, AtomicU64::new(0)), (IA32_SYSENTER_CS, AtomicU64::new(0)), (IA32_PAT, AtomicU64::new(0))];

/// What CPUID says of this CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    /// Protection keys for supervisor pages: CPUID.(7,0):ECX[31].
    pub(crate) pks: bool,
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
        smep: ebx & (1 << 7) != 0,
        umip: ecx & (1 << 2) != 0,
        gib_pages: extended & (1 << 26) != 0,
        no_execute: extended & (1 << 20) != 0,
    }
}

/// Sets the control registers: paging as it is; WP, EM, SMEP, UMIP, MCE, DE on where the CPU has them; x87, SSE,
/// XSAVE, FSGSBASE, user keys, counters, VMX, SMX, global pages, SYSCALL and SYSENTER off.
///
/// # Safety
/// Runs once on each CPU, on the kernel's own page tables, before PKS is switched on.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn set_control_registers(features: Features) {
    let cr0 = Cr0Flags::from_bits_retain(init::read_cr0());
    let cr0 = (cr0 | Cr0Flags::WRITE_PROTECT | Cr0Flags::EMULATE_COPROCESSOR) - Cr0Flags::MONITOR_COPROCESSOR;
    // SAFETY: paging and long mode stay as they are.
    unsafe { init::write_cr0(cr0.bits()) };

    let kept = Cr4Flags::from_bits_retain(insn::read_cr4())
        & (Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::L5_PAGING);
    let mut cr4 = kept | Cr4Flags::DEBUGGING_EXTENSIONS | Cr4Flags::MACHINE_CHECK_EXCEPTION;
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    // SAFETY: every bit is architectural in long mode or was asked of CPUID.
    unsafe { init::write_cr4(cr4.bits()) };

    // LME and LMA stay; SCE goes, so that SYSCALL is #UD; NXE where the CPU has it.
    // SAFETY: EFER exists in long mode; LMA is kept.
    unsafe {
        let nxe = if features.no_execute { 1 << 11 } else { 0 };
        init::write_msr(IA32_EFER, (insn::read_msr(IA32_EFER) & !1) | nxe);
        init::write_msr(IA32_SYSENTER_CS, 0);
        for (register, value) in &RELIED_ON {
            value.store(insn::read_msr(*register), Ordering::Relaxed);
        }
    }
}

/// WRMSR, in the vault. EDI the register, ESI and EDX the halves of the value.
///
/// # Safety
/// The register exists and the value breaks none of the kernel's assumptions.
#[unsafe(naked)]
#[unsafe(link_section = ".selftest.text")]
unsafe extern "C" fn write_msr(register: u32, low: u32, high: u32) {
    naked_asm!("mov ecx, edi", "mov eax, esi", "wrmsr", "ret")
}

/// Puts the registers right that a failed check may have been too late for. Called before the domain is blamed.
pub(crate) fn restore_registers() {
    type WriteMsr = unsafe extern "C" fn(u32, u32, u32);
    for (register, value) in &RELIED_ON {
        let value = value.load(Ordering::Relaxed);
        // SAFETY: all of them exist in long mode.
        if unsafe { insn::read_msr(*register) } != value {
            crate::selftest::in_vault(write_msr as WriteMsr, |write| {
                // SAFETY: the value is the one that the kernel has run with since bring-up.
                unsafe { write(*register, value as u32, (value >> 32) as u32) }
            });
        }
    }
}

/// Whether the CPU can forbid execution; without that there is no W^X.
pub(crate) fn can_forbid_execution(features: Features) -> bool {
    features.no_execute
}

/// What went wrong when PKS was switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PksError {
    /// CR4.PKS did not stick.
    #[error("CR4.PKS does not stick")]
    Cr4,
    /// IA32_PKRS reads something else than was written.
    #[error("IA32_PKRS does not read back")]
    Pkrs,
}

/// Switches PKS on, in the safe order: PKRS gets the kernel's word, then CR4.PKS is set, then the whole TLB is
/// flushed, because entries that were made before carry no key (QEMU's TCG does not flush on CR4.PKS by itself).
/// Both registers are read back.
///
/// # Errors
/// [`PksError`] if a register does not hold what was written.
///
/// # Safety
/// CPUID names PKS on this CPU, and the kernel's own page tables are in force.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn enable_pks() -> Result<(), PksError> {
    let pks = Cr4Flags::PROTECTION_KEY_SUPERVISOR.bits();
    // SAFETY: the caller asked CPUID; the kernel's word opens everything that the kernel's mappings carry.
    unsafe {
        init::write_msr(IA32_PKRS, u64::from(Pkrs::KERNEL.raw()));
        init::write_cr4(insn::read_cr4() | pks);
        init::write_cr3(insn::read_cr3());
    }
    if insn::read_cr4() & pks == 0 {
        return Err(PksError::Cr4);
    }
    // SAFETY: the register exists with PKS.
    if unsafe { insn::read_msr(IA32_PKRS) } != u64::from(Pkrs::KERNEL.raw()) {
        return Err(PksError::Pkrs);
    }
    Ok(())
}

/// Where the local APIC's registers lie, and whether firmware left it in x2APIC mode (in which a single WRMSR could
/// send INIT to another CPU).
pub(crate) fn local_apic_base() -> (u64, bool) {
    // SAFETY: IA32_APIC_BASE exists on every CPU with a local APIC, and long mode implies one in practice.
    let base = unsafe { insn::read_msr(IA32_APIC_BASE) };
    (base & 0x000f_ffff_ffff_f000, base & (1 << 10) != 0)
}

/// The live PKRS.
///
/// # Safety
/// The CPU has PKS.
pub(crate) unsafe fn read_pkrs() -> Pkrs {
    // SAFETY: as the caller promises.
    Pkrs::from_raw(unsafe { insn::read_msr(IA32_PKRS) } as u32)
}
