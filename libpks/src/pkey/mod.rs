//! Protection keys for supervisor pages (PKS): keys, rights, the rights word and the key allocator.
//!
//! A supervisor page carries a 4-bit key in bits 62:59 of its leaf page-table entry. `IA32_PKRS` (MSR 0x6E1)
//! holds two bits for each key: AD (2i) denies every data access, WD (2i+1) denies writes. Instruction
//! fetches are not checked. Source: Intel SDM vol. 3A, section 4.6.2 "Protection Keys".
#![forbid(unsafe_code)]

mod allocator;
mod pkrs;

pub use allocator::{KeyAllocator, KeyError};
pub use pkrs::Pkrs;

use core::fmt;

use serde::{Deserialize, Serialize};

/// Number of hardware keys.
pub const KEYS: u8 = 16;

/// A hardware protection key, 0 to 15.
///
/// Capabilities, the ABI and records name sharing classes, never one of these: which key a class has is up
/// to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pkey(u8);

impl Pkey {
    /// Key 0: open in every word. Where the CPU has keys no page carries it, for it is what a page has that was forgotten.
    pub const OPEN: Self = Self(0);
    /// Key 1: what the kernel alone may reach.
    pub const KERNEL: Self = Self(1);

    /// The key with this number, or `None` above 15.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < KEYS { Some(Self(number)) } else { None }
    }

    /// The key's number, 0 to 15.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// All sixteen keys in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..KEYS).map(Self)
    }
}

impl fmt::Display for Pkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a thread may do with the data under a key, ordered by power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rights {
    /// Neither read nor write (AD).
    NoAccess,
    /// Read (WD).
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAccess => "none",
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        })
    }
}

/// A data access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or a load that is part of a read-modify-write.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// Lowest bit of the key in a leaf page-table entry (SDM vol. 3A, 4.5.4: bits 62:59 of PTE, PDE, PDPTE).
const PTE_KEY_SHIFT: u32 = 59;
const PTE_KEY_MASK: u64 = 0xf << PTE_KEY_SHIFT;

/// The leaf page-table entry `pte` with its key replaced by `key`.
#[must_use]
pub const fn pte_with_key(pte: u64, key: Pkey) -> u64 {
    (pte & !PTE_KEY_MASK) | ((key.0 as u64) << PTE_KEY_SHIFT)
}

/// The key of a leaf page-table entry. (The bits are ignored by the CPU in entries that point to tables.)
#[must_use]
pub const fn pte_key(pte: u64) -> Pkey {
    Pkey(((pte & PTE_KEY_MASK) >> PTE_KEY_SHIFT) as u8)
}
