//! Names of capabilities and of their spaces.
#![forbid(unsafe_code)]

use crate::table::Id;

/// A capability space, which is to say a domain: its index in the kernel's domain table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

/// What a domain calls a capability that it holds.
///
/// The number is index and generation of the node. It is no secret: it is worth nothing to a domain that
/// does not hold the node. 0 is never a valid handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// The handle with this number, which may name nothing.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self { index: raw as u32, generation: (raw >> 32) as u32 }
    }

    /// The number that travels in registers and messages: generation in bits 63:32, index in 31:0.
    #[must_use]
    pub const fn raw(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub(super) const fn from_id(id: Id) -> Self {
        Self { index: id.index, generation: id.generation }
    }

    pub(super) const fn id(self) -> Id {
        Id { index: self.index, generation: self.generation }
    }
}
