//! Which regions share a hardware key.
//!
//! Keys are few, so they are not given out one a region. In a view, two mapped regions are under the same key
//! if and only if the same domains hold them with the same maximum rights: then no rights word could ever
//! need to tell them apart. The regions that agree in this form a *class* (a virtual key), and a class has a
//! hardware key while at least one of its regions is mapped. Regions under a key that somebody asked for in
//! particular are *pinned* and stay out of this.
//!
//! Each view has keys and classes of its own, and in its classes only the domains count that are in it. Of others it
//! matters only whether there are any ([`Spread`]): so what a domain shares with anybody, wherever that is, is never under
//! the key of what it has for itself.
//!
//! | type | is |
//! | --- | --- |
//! | [`ViewKeys`] | the keys of one view, and whose they are |
//! | [`Sharing`] | the classes of all views |
//! | [`Spread`] | whether a region is held in other views too |
//! | [`ClassId`] | names a class; capabilities and records keep this, never the hardware key |
//! | [`Member`] | one region's part in its class; the region object keeps it |
//! | [`Change`] | what the kernel has to do to page tables and rights words after a change of holders |
#![forbid(unsafe_code)]

mod classes;
mod holders;
mod view;

pub use classes::{Class, ClassId, Member, Sharing};
pub use holders::Holder;
pub use view::{KEYS_KEPT, ROOM, ViewKeys, room};

use crate::pkey::{KeyError, Pkey};
use crate::table::OutOfMemory;

/// Where those are who hold a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All in one view.
    OneView,
    /// In several.
    ManyViews,
}

/// Why an operation on classes was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// The class of the member is not in these books, or is another view's.
    #[error("no such sharing class")]
    NoSuchClass,
    /// The region is mapped, or is not, and the operation needs the opposite.
    #[error("region is in the wrong state for this")]
    WrongState,
    /// Other regions have the same pinned key; new holders of one would reach them all.
    #[error("pinned key has other regions")]
    Pinned,
    /// No hardware key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The books could not grow.
    #[error("no memory for a sharing class")]
    OutOfMemory,
}

impl From<OutOfMemory> for SharingError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// What a change of a region's holders means for page tables and rights words.
///
/// If `from` and `to` are the same class, its key stayed and only the rights of the changed holder have to be
/// narrowed. Else the region's pages, if mapped, go from `old_key` to `new_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "page tables and rights words have to follow"]
pub struct Change {
    /// The class that the region was in. It is gone if that was its last region.
    pub from: ClassId,
    /// The class that it is in now.
    pub to: ClassId,
    /// The key that its pages had, if it is mapped.
    pub old_key: Option<Pkey>,
    /// The key that its pages need, if it is mapped.
    pub new_key: Option<Pkey>,
    /// `old_key`, if nothing is under it any more. It is still allocated: the caller gives it back with
    /// [`ViewKeys::release`] once no page, TLB entry or rights word refers to it.
    pub freed: Option<Pkey>,
}
