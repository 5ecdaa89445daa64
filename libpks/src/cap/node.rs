//! A capability in the table, with its links.
#![forbid(unsafe_code)]

use super::{Capability, Owner};

/// The index of a node, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn to(index: u32) -> Self {
        Self(index)
    }

    pub(super) const fn get(self) -> Option<u32> {
        if self.0 == u32::MAX { None } else { Some(self.0) }
    }
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(&self.get(), f)
    }
}

/// How a node came to its holder, or that it is no longer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    /// For good.
    Kept,
    /// On loan.
    Lent,
    /// Was on loan, and its borrower has dropped it, but not what it had lent on. Nobody holds it; it stays until the
    /// loan ends, which takes that along. So there are never more of these than loans that have not ended.
    Dropped,
    /// Held by nobody. It stays only to keep what was derived from it together below what it came from, and
    /// only while that is at least two nodes; so there are always fewer of these than of the others.
    Dead,
}

impl Tenure {
    /// Whether somebody can name it.
    pub(super) const fn is_held(self) -> bool {
        matches!(self, Self::Kept | Self::Lent)
    }
}

/// A capability with its place in the derivation tree and in its holder's list.
#[derive(Debug)]
pub struct Node {
    pub(super) capability: Capability,
    pub(super) owner: Owner,
    pub(super) tenure: Tenure,
    pub(super) parent: Link,
    pub(super) first_child: Link,
    pub(super) next: Link,
    pub(super) prev: Link,
    pub(super) next_owned: Link,
    pub(super) prev_owned: Link,
}

impl Node {
    pub(super) const fn new(owner: Owner, capability: Capability, tenure: Tenure) -> Self {
        Self {
            capability,
            owner,
            tenure,
            parent: Link::NONE,
            first_child: Link::NONE,
            next: Link::NONE,
            prev: Link::NONE,
            next_owned: Link::NONE,
            prev_owned: Link::NONE,
        }
    }
}

// A lookup touches one cache line.
const _: () = assert!(size_of::<crate::table::Slot<Node>>() <= 64);
