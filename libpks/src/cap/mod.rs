//! The capability table: who holds what, where it came from, and how it is taken back.
//!
//! All capabilities of the system are nodes of one [`CapTable`]. A node belongs to one capability space (that
//! of a domain, named by its [`Owner`]) and has a place in a derivation tree: below the capability that it was
//! minted from or lent by. A domain names a node by a [`Handle`], which is good only for the space that holds
//! the node and only until the node goes.
//!
//! Every operation takes a bounded number of steps; what has no natural bound (revoke, emptying a space) is
//! cut into steps with a budget and can be left and taken up again at any time. Everything that a space loses
//! is reported as a [`Removal`], so that the kernel narrows rights words and drops references.
//!
//! | operation | what it does |
//! | --- | --- |
//! | [`insert_root`](CapTable::insert_root) | a first capability to a new object |
//! | [`mint`](CapTable::mint) | a derived capability with the same or fewer rights, perhaps a badge |
//! | [`move_to`](CapTable::move_to) | hands a capability over, its place in the tree kept |
//! | [`lend`](CapTable::lend) | a derived capability that ends with the loan |
//! | [`delete`](CapTable::delete) | drops one; what was derived from it now hangs below what it came from |
//! | [`revoke_step`](CapTable::revoke_step) | takes back all that was derived from one |
#![forbid(unsafe_code)]

mod handle;
mod loan;
mod node;
mod object;
mod revoke;
mod rights;
mod space;
mod table;

pub use handle::{Handle, Owner};
pub use loan::Loan;
pub use node::Node;
pub use object::{Capability, ObjectId, ObjectKind};
pub use revoke::Progress;
pub use rights::CapRights;
pub use space::Space;
pub use table::{CapTable, Derived};

use crate::table::OutOfMemory;

/// Why an operation on capabilities was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// The handle names no capability of this space: made up, deleted, revoked, or somebody else's. Which of
    /// these is not told, so that nothing can be learned about other spaces.
    #[error("no such capability")]
    NoSuchCapability,
    /// The capability names an object of another kind.
    #[error("capability names another kind of object")]
    WrongKind,
    /// The capability lacks a right that the operation needs.
    #[error("capability lacks a right")]
    MissingRights,
    /// More rights were asked for than the capability has.
    #[error("more rights than the capability has")]
    RightsExceeded,
    /// The capability has a badge, so it cannot get another.
    #[error("capability has a badge already")]
    AlreadyBadged,
    /// The capability is on loan: it can be lent on, not copied, minted or handed over.
    #[error("capability is on loan")]
    Lent,
    /// The handle's slot has used up its generations; mint and delete instead of moving.
    #[error("capability slot has used up its generations")]
    Worn,
    /// No capability space is open for this owner.
    #[error("no such capability space")]
    NoSuchSpace,
    /// The owner's space is open already, or not yet emptied.
    #[error("capability space is in use")]
    SpaceInUse,
    /// The space holds as many capabilities as it may.
    #[error("capability space is full")]
    SpaceFull,
    /// The table could not grow.
    #[error("no memory for another capability")]
    OutOfMemory,
}

impl From<OutOfMemory> for CapError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Why a space lost a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its holder dropped it.
    Deleted,
    /// It was derived from one that was revoked.
    Revoked,
    /// It was lent, or lent on, and the loan ended.
    LoanEnded,
    /// The whole space was emptied.
    SpaceDeleted,
    /// It was handed over: another space has it now, under a new handle. No reference to the object went.
    Moved,
}

/// What a space lost. The handle is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal<'a> {
    /// The space that lost it.
    pub owner: Owner,
    /// What it was called there.
    pub handle: Handle,
    /// What it was.
    pub capability: &'a Capability,
    /// Why.
    pub cause: Cause,
}
