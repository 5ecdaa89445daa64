//! What checks the keys on this machine: PKS at supervisor pages, PKU at user pages, or page tables for each rights word.
//!
//! PKU checks keys at pages with U/S set, in ring 0 as well (Intel SDM vol. 3A, 4.6.2), and its register PKRU has the
//! layout of PKRS. So with PKU the kernel sets U/S in every mapping that keys are to cover, its own too, and clears it
//! where with PKS it is set; nothing runs in ring 3, so U/S means nothing else. SMAP and SMEP would forbid ring 0 these
//! pages and stay off; W^X does not need them. WRPKRU takes the place of WRMSR. It is #GP with another ECX than 0
//! (vol. 2D, WRPKRU), so that unlike a WRMSR it can write no other register, whoever jumps to it.
//!
//! A CPU without keys has a root page table for each rights word that shows what the word opens, and nothing else
//! (`mem::narrow`). The register that is written is CR3, and the kernel's word is a root of the kernel's own. Keys are in
//! the books and in the leaves all the same; the CPU ignores them there.

use super::cpu::Features;
use super::insn::{self, init};
use super::window;
use core::sync::atomic::{AtomicU8, Ordering};
use libpks::abi::inspect::Isolation;
use libpks::pkey::Pkrs;
use x86_64::registers::control::Cr4Flags;

/// IA32_PKRS (Intel SDM vol. 4, table 2-2).
pub(crate) const IA32_PKRS: u32 = 0x6e1;

/// A write of PKRS by WRMSR, listed in a section. REX.W does nothing but make room for WRPKRU.
macro_rules! pkrs_write {
    ($section:literal) => {
        concat!("770: .byte 0x48\nwrmsr\n.pushsection ", $section, ",\"a\"\n.quad 770b\n.popsection\n")
    };
}

/// A read of PKRS by RDMSR, listed in a section.
macro_rules! pkrs_read {
    ($section:literal) => {
        concat!("771: .byte 0x48\nrdmsr\n.pushsection ", $section, ",\"a\"\n.quad 771b\n.popsection\n")
    };
}

/// The number of IA32_PKRS as the last four bytes of an instruction, listed. With PKU it is 0 there.
macro_rules! pkrs_number {
    ($instruction:literal) => {
        concat!($instruction, "\n776:\n.pushsection .pkrs_numbers,\"a\"\n.quad 776b-4\n.popsection\n")
    };
}

pub(crate) use {pkrs_number, pkrs_read, pkrs_write};

/// The key of the command line that asks for one way of protection.
pub(crate) const OPTION: &str = "protection";

/// What checks the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Protection {
    /// A root for each rights word.
    Roots = 0,
    /// Protection keys for supervisor pages.
    Pks = 1,
    /// Protection keys for user pages, in ring 0.
    Pku = 2,
}

/// Why a machine cannot be protected as it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProtectionError {
    /// The command line asks for something unknown.
    #[error("protection= takes pks, pku or views")]
    Unknown,
    /// The command line asks for keys that the CPU has not.
    #[error("this CPU has not the keys that protection= asks for")]
    Missing,
    /// The bit of CR4 did not stick.
    #[error("CR4 does not take the bit that switches keys on")]
    Cr4,
    /// The register of the rights reads something else than was written.
    #[error("the register of the rights word does not read back")]
    Word,
}

/// As a number, for code that runs without the kernel's lock.
static IN_FORCE: AtomicU8 = AtomicU8::new(Protection::Roots as u8);

/// What checks the keys on this machine.
pub(crate) fn in_force() -> Protection {
    match IN_FORCE.load(Ordering::Relaxed) {
        1 => Protection::Pks,
        2 => Protection::Pku,
        _ => Protection::Roots,
    }
}

/// The rights word that is in force on this CPU.
pub(crate) fn live_pkrs() -> Pkrs {
    in_force().live_word()
}

/// Takes what is asked for, by the key [`OPTION`] of the command line, else the best that the CPU has; it holds for the
/// rest of this boot.
///
/// # Errors
/// [`ProtectionError::Unknown`], [`ProtectionError::Missing`].
#[unsafe(link_section = ".init.text")]
pub(crate) fn choose(features: Features, asked: Option<&str>) -> Result<Protection, ProtectionError> {
    let chosen = match asked {
        None if features.pks => Protection::Pks,
        None if features.pku => Protection::Pku,
        None | Some("views") => Protection::Roots,
        Some("pks") if features.pks => Protection::Pks,
        Some("pku") if features.pku => Protection::Pku,
        Some("pks" | "pku") => return Err(ProtectionError::Missing),
        Some(_) => return Err(ProtectionError::Unknown),
    };
    IN_FORCE.store(chosen as u8, Ordering::Relaxed);
    Ok(chosen)
}

impl Protection {
    /// Whether each rights word has a root, so that the kernel runs on one of its own.
    pub(crate) fn has_roots(self) -> bool {
        self == Protection::Roots
    }

    /// What entries write for the kernel on a CPU with this root.
    pub(crate) fn kernel_value(self, root: u64) -> u64 {
        if self.has_roots() { root } else { u64::from(Pkrs::KERNEL.raw()) }
    }

    /// The word that a record has of what was in force at a trap.
    pub(crate) fn word_read(self, raw: u64) -> Pkrs {
        if self.has_roots() { window::word_of(raw) } else { Pkrs::from_raw(raw as u32) }
    }

    /// Whether the keys count at pages with U/S set, and not at the others.
    pub(crate) fn covers_user_pages(self) -> bool {
        self == Protection::Pku
    }

    /// The name for whoever asks.
    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Protection::Roots => Isolation::Views,
            Protection::Pks => Isolation::Pks,
            Protection::Pku => Isolation::Pku,
        }
    }

    /// The bit of CR4 that switches the keys on.
    pub(crate) fn control_bit(self) -> Cr4Flags {
        match self {
            Protection::Roots => Cr4Flags::empty(),
            Protection::Pks => Cr4Flags::PROTECTION_KEY_SUPERVISOR,
            Protection::Pku => Cr4Flags::PROTECTION_KEY_USER,
        }
    }

    /// What the entry code has for a write of the rights word, in place of REX.W WRMSR, and for a read, in place of
    /// REX.W RDMSR; what ECX is at both. `None` where it stays as it was linked.
    pub(crate) fn instructions(self) -> Option<Instructions> {
        match self {
            Protection::Pks => None,
            // WRPKRU, RDPKRU.
            Protection::Pku => {
                Some(Instructions { write: [0x0f, 0x01, 0xef], read: [0x0f, 0x01, 0xee], number: 0 })
            }
            // MOV CR3,RAX, MOV RAX,CR3.
            Protection::Roots => {
                Some(Instructions { write: [0x0f, 0x22, 0xd8], read: [0x0f, 0x20, 0xd8], number: IA32_PKRS })
            }
        }
    }

    /// Switches the keys on, in the safe order: the register gets the kernel's word, then the bit of CR4 is set, then the
    /// whole TLB is flushed, because entries that were made before carry no key (QEMU's TCG does not flush on CR4.PKS by
    /// itself). Both registers are read back.
    ///
    /// # Errors
    /// [`ProtectionError::Cr4`], [`ProtectionError::Word`].
    ///
    /// # Safety
    /// [`choose`] chose it, and the kernel's own page tables are in force.
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn enable(self) -> Result<(), ProtectionError> {
        let bit = self.control_bit().bits();
        let word = Pkrs::KERNEL.raw();
        // SAFETY: CPUID was asked by `choose`; the kernel's word opens everything that the kernel's mappings carry. PKRU can
        // be written only once its bit of CR4 is set; what the loader left in it closes nothing before that, and the
        // next instruction that touches memory comes after the write.
        unsafe {
            match self {
                Protection::Roots => return Ok(()),
                Protection::Pks => {
                    init::write_msr(IA32_PKRS, u64::from(word));
                    init::write_cr4(insn::read_cr4() | bit);
                }
                Protection::Pku => init::enable_pku(insn::read_cr4() | bit, word),
            }
            init::write_cr3(insn::read_cr3());
        }
        if insn::read_cr4() & bit == 0 {
            return Err(ProtectionError::Cr4);
        }
        if self.live_word() == Pkrs::KERNEL { Ok(()) } else { Err(ProtectionError::Word) }
    }

    fn live_word(self) -> Pkrs {
        match self {
            Protection::Roots => window::word_of(insn::read_cr3()),
            // SAFETY: the register exists with PKS.
            Protection::Pks => Pkrs::from_raw(unsafe { insn::read_msr(IA32_PKRS) } as u32),
            // SAFETY: CR4.PKE has been set since bring-up.
            Protection::Pku => Pkrs::from_raw(unsafe { insn::read_pkru() }),
        }
    }
}

/// Bytes that take the place of those in the entry code that read and write PKRS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Instructions {
    /// In place of REX.W WRMSR.
    pub(crate) write: [u8; 3],
    /// In place of REX.W RDMSR.
    pub(crate) read: [u8; 3],
    /// In place of the number of IA32_PKRS, where it is loaded into ECX and where ECX is compared with it.
    pub(crate) number: u32,
}
