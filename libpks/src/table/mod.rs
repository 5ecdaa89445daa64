//! Storage that grows: the only thing the bookkeeping in this crate asks of its surroundings.
//!
//! The kernel implements [`Table`] over a reserved range of addresses that it backs with frames page by page;
//! on the host a `Vec` does. Entries never move to another index and a table never shrinks; what lives and
//! what is free is decided above it, by [`Arena`].
#![forbid(unsafe_code)]

mod arena;

pub use arena::{Arena, ArenaError, Id, Slot};

use core::hint::black_box;

/// The table could not grow: no frame, no quota, or the end of its address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for another table entry")]
pub struct OutOfMemory;

/// Random-access storage that grows at its end.
pub trait Table<T> {
    /// Number of entries. Only [`push`](Self::push) changes it.
    fn len(&self) -> u32;

    /// Whether nothing was pushed yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index`, or `None` past the end.
    fn get(&self, index: u32) -> Option<&T>;

    /// Entry `index` for changing, or `None` past the end.
    fn get_mut(&mut self, index: u32) -> Option<&mut T>;

    /// Appends `value` and tells its index, which is the length before the call.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the table cannot grow; it is then unchanged.
    fn push(&mut self, value: T) -> Result<u32, OutOfMemory>;
}

#[cfg(any(feature = "alloc", test))]
impl<T> Table<T> for alloc::vec::Vec<T> {
    fn len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn get(&self, index: u32) -> Option<&T> {
        self.as_slice().get(usize::try_from(index).ok()?)
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.as_mut_slice().get_mut(usize::try_from(index).ok()?)
    }

    fn push(&mut self, value: T) -> Result<u32, OutOfMemory> {
        let index = u32::try_from(self.len()).map_err(|_| OutOfMemory)?;
        self.try_reserve(1).map_err(|_| OutOfMemory)?;
        Self::push(self, value);
        Ok(index)
    }
}

/// `index` if it is below `len`, computed so that a CPU which guesses the comparison wrong still uses an
/// index inside the table.
///
/// For indices that come from a domain. The mask is arithmetic, hidden from the optimiser, and 0 when the
/// index is out of range, so the speculated access goes to entry 0.
#[must_use]
pub fn checked_index(index: u32, len: u32) -> Option<u32> {
    let mask = black_box((i64::from(index) - i64::from(len)) >> 63);
    let safe = u32::try_from(i64::from(index) & mask).ok()?;
    (index < len).then_some(safe)
}
