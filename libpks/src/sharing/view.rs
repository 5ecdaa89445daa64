//! The hardware keys of a view.
#![forbid(unsafe_code)]

use crate::pkey::{KEYS, KeyAllocator, KeyError, Pkey};

/// Keys of a view that are kept for memory that its domains share, when a domain may be in any view.
pub const KEYS_KEPT: u8 = 3;
/// So many domains that may be in any view find room in one of which nobody has taken keys: as many as there are keys but
/// the open one, the kernel's, and those that are kept.
pub const ROOM: u8 = KEYS - 2 - KEYS_KEPT;

/// How many domains that may be in any view are put into one, as the value of `views=` on the kernel's command line says:
/// `together` for as many as there is room for, which it is without that word; `apart` for one; or a number up to
/// [`ROOM`]. `None` for what is none of these.
#[must_use]
pub fn room(value: Option<&str>) -> Option<u8> {
    match value {
        None | Some("together") => Some(ROOM),
        Some("apart") => Some(1),
        Some(number) => number.parse().ok().filter(|room| (1..=ROOM).contains(room)),
    }
}

/// The keys of one view: which are free, and which class has which.
#[derive(Clone, Debug)]
pub struct ViewKeys {
    number: u32,
    allocator: KeyAllocator,
    /// The index of the class, by key.
    classes: [Option<u32>; KEYS as usize],
}

impl ViewKeys {
    /// All keys of a new view are free. `number` tells it from all other views of the same [`Sharing`](super::Sharing).
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self { number, allocator: KeyAllocator::new(), classes: [None; KEYS as usize] }
    }

    /// The number of the view.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Hands out the key that has been free for longest.
    ///
    /// # Errors
    /// As [`KeyAllocator::allocate`].
    pub fn allocate(&mut self) -> Result<Pkey, KeyError> {
        self.allocator.allocate()
    }

    /// Takes a key back: no page, TLB entry or rights word of the view refers to it any more.
    ///
    /// # Errors
    /// As [`KeyAllocator::release`].
    pub fn release(&mut self, key: Pkey) -> Result<(), KeyError> {
        self.allocator.release(key)
    }

    /// Whether `key` is handed out.
    #[must_use]
    pub const fn is_allocated(&self, key: Pkey) -> bool {
        self.allocator.is_allocated(key)
    }

    /// The keys that are handed out, ascending.
    pub fn allocated(&self) -> impl Iterator<Item = Pkey> {
        self.allocator.allocated()
    }

    /// How many keys can still be handed out.
    #[must_use]
    pub const fn available(&self) -> u8 {
        self.allocator.available()
    }

    /// The class whose regions are under a key.
    pub(super) fn class_of(&self, key: Pkey) -> Option<u32> {
        *self.classes.get(usize::from(key.index()))?
    }

    pub(super) fn set_class(&mut self, key: Pkey, class: Option<u32>) {
        if let Some(entry) = self.classes.get_mut(usize::from(key.index())) {
            *entry = class;
        }
    }
}
