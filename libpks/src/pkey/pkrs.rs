//! The rights word: what `IA32_PKRS` holds.
#![forbid(unsafe_code)]

use core::fmt;

use super::{Access, KEYS, Pkey, Rights};

/// The AD bits of all keys; shifted left by one, the WD bits.
const AD: u32 = 0x5555_5555;

/// A value of `IA32_PKRS`: two bits for each key, AD at 2i and WD at 2i+1.
///
/// The register is 64 bits wide and bits 63:32 must be 0, which a `u32` gives by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Pkrs(u32);

impl Pkrs {
    /// Every key closed, key 0 included.
    pub const CLOSED: Self = Self(AD);
    /// What a domain starts from, and what is in force before anything is granted: key 0 alone is open.
    pub const DEFAULT: Self = Self::opening(&[(Pkey::OPEN, Rights::ReadWrite)]);
    /// The kernel's own word: keys 0 and 1 open, all domains' memory closed.
    pub const KERNEL: Self =
        Self::opening(&[(Pkey::OPEN, Rights::ReadWrite), (Pkey::KERNEL, Rights::ReadWrite)]);

    /// The word that gives the listed rights; every key that is not listed is closed.
    #[must_use]
    pub const fn opening(listed: &[(Pkey, Rights)]) -> Self {
        let mut word = Self::CLOSED;
        let mut rest = listed;
        while let [(key, rights), tail @ ..] = rest {
            word = word.with(*key, *rights);
            rest = tail;
        }
        word
    }

    /// The word with this register value.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The register value.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The word with the rights to one key replaced. No access is written as AD alone.
    #[must_use]
    pub const fn with(self, key: Pkey, rights: Rights) -> Self {
        let shift = 2 * key.index() as u32;
        let bits: u32 = match rights {
            Rights::ReadWrite => 0b00,
            Rights::NoAccess => 0b01,
            Rights::ReadOnly => 0b10,
        };
        Self((self.0 & !(0b11 << shift)) | (bits << shift))
    }

    /// The word with at least these rights to one key.
    #[must_use]
    pub fn widened(self, key: Pkey, rights: Rights) -> Self {
        self.with(key, self.rights(key).max(rights))
    }

    /// What the bits of `key` say. AD wins over WD.
    #[must_use]
    pub const fn rights(self, key: Pkey) -> Rights {
        match (self.0 >> (2 * key.index() as u32)) & 0b11 {
            0b00 => Rights::ReadWrite,
            0b10 => Rights::ReadOnly,
            _ => Rights::NoAccess,
        }
    }

    /// Whether the CPU lets this data access to a supervisor page under `key` pass, as far as keys go.
    ///
    /// `write_protect` is CR0.WP; without it WD is ignored, AD is not (SDM vol. 3A, 4.6.2).
    #[must_use]
    pub const fn permits(self, key: Pkey, access: Access, write_protect: bool) -> bool {
        match (self.rights(key), access) {
            (Rights::NoAccess, _) => false,
            (Rights::ReadWrite, _) | (Rights::ReadOnly, Access::Read) => true,
            (Rights::ReadOnly, Access::Write) => !write_protect,
        }
    }

    /// Whether this word gives no more than `limit`, for every key.
    #[must_use]
    pub const fn is_within(self, limit: Self) -> bool {
        (limit.no_read() & !self.no_read()) | (limit.no_write() & !self.no_write()) == 0
    }

    /// The smaller of both rights, for every key. Keys for which `limit` takes nothing away keep their bits
    /// exactly.
    #[must_use]
    pub const fn narrowed(self, limit: Self) -> Self {
        let no_read = self.no_read() | limit.no_read();
        let no_write = self.no_write() | limit.no_write();
        let changed = (no_read & !self.no_read()) | (no_write & !self.no_write());
        let mask = changed | (changed << 1);
        let narrow = no_read | ((no_write & !no_read) << 1);
        Self((self.0 & !mask) | (narrow & mask))
    }

    /// One bit (2i) for each key whose data cannot be read.
    const fn no_read(self) -> u32 {
        self.0 & AD
    }

    /// One bit (2i) for each key whose data cannot be written.
    const fn no_write(self) -> u32 {
        (self.0 | (self.0 >> 1)) & AD
    }
}

const _: () = {
    assert!(Pkrs::DEFAULT.raw() == 0x5555_5554);
    assert!(Pkrs::KERNEL.raw() == 0x5555_5550);
    let mut number = 1;
    while number < KEYS {
        if let Some(key) = Pkey::new(number) {
            assert!(matches!(Pkrs::DEFAULT.rights(key), Rights::NoAccess));
        }
        number += 1;
    }
};

/// Decodes the word: `0:rw 5:ro rest:none`.
impl fmt::Display for Pkrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut listed = 0;
        for key in Pkey::all().filter(|key| self.rights(*key) != Rights::NoAccess) {
            let space = if listed == 0 { "" } else { " " };
            write!(f, "{space}{key}:{}", self.rights(key))?;
            listed += 1;
        }
        match listed {
            0 => f.write_str("all:none"),
            KEYS => Ok(()),
            _ => f.write_str(" rest:none"),
        }
    }
}

impl fmt::Debug for Pkrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkrs({:#010x} {self})", self.0)
    }
}
