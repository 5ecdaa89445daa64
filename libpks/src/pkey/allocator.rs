//! Hands out the keys of one view.
#![forbid(unsafe_code)]

use super::{KEYS, Pkey};

/// The lowest key that is handed out; those below have fixed meanings.
const FIRST: u8 = 2;
/// How many keys are handed out.
const POOL: u8 = KEYS - FIRST;

/// Why a key was not handed out or not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// All keys of the view are in use.
    #[error("all protection keys are in use")]
    Exhausted,
    /// The key is not handed out, so it cannot be given back.
    #[error("protection key is not allocated")]
    NotAllocated,
    /// Keys 0 and 1 are never handed out.
    #[error("protection key is reserved for the kernel")]
    Reserved,
}

/// The free keys of one view, 2 to 15.
///
/// The key that has been free for longest comes next, so that a stale tag or TLB entry, should one ever be
/// left, meets its key again as late as possible. That is a second line only: before
/// [`release`](Self::release) no page, TLB entry or rights word may refer to the key any more.
#[derive(Clone, Debug)]
pub struct KeyAllocator {
    /// Bit i: key i is handed out.
    allocated: u16,
    /// Free keys, oldest first, from `first` on, wrapping.
    free: [Pkey; POOL as usize],
    first: u8,
    count: u8,
}

impl KeyAllocator {
    /// All of 2 to 15 are free, in this order.
    #[must_use]
    pub const fn new() -> Self {
        let mut free = [Pkey::OPEN; POOL as usize];
        let mut slot = 0;
        while slot < POOL {
            if let Some(key) = Pkey::new(FIRST + slot) {
                free[slot as usize] = key;
            }
            slot += 1;
        }
        Self { allocated: 0, free, first: 0, count: POOL }
    }

    /// Hands out the key that has been free for longest.
    ///
    /// # Errors
    /// [`KeyError::Exhausted`] when no key is free.
    pub fn allocate(&mut self) -> Result<Pkey, KeyError> {
        if self.count == 0 {
            return Err(KeyError::Exhausted);
        }
        let key = *self.free.get(usize::from(self.first)).ok_or(KeyError::Exhausted)?;
        self.first = (self.first + 1) % POOL;
        self.count -= 1;
        self.allocated |= bit(key);
        Ok(key)
    }

    /// Takes a key back.
    ///
    /// # Errors
    /// [`KeyError::Reserved`] for keys 0 and 1, [`KeyError::NotAllocated`] for a key that is not handed out.
    pub fn release(&mut self, key: Pkey) -> Result<(), KeyError> {
        if key.index() < FIRST {
            return Err(KeyError::Reserved);
        }
        if self.allocated & bit(key) == 0 {
            return Err(KeyError::NotAllocated);
        }
        let last = usize::from((self.first + self.count) % POOL);
        *self.free.get_mut(last).ok_or(KeyError::NotAllocated)? = key;
        self.count += 1;
        self.allocated &= !bit(key);
        Ok(())
    }

    /// Whether `key` is handed out.
    #[must_use]
    pub const fn is_allocated(&self, key: Pkey) -> bool {
        self.allocated & bit(key) != 0
    }

    /// The keys that are handed out, ascending.
    pub fn allocated(&self) -> impl Iterator<Item = Pkey> {
        let allocated = self.allocated;
        Pkey::all().filter(move |key| allocated & bit(*key) != 0)
    }

    /// How many keys [`allocate`](Self::allocate) can still hand out.
    #[must_use]
    pub const fn available(&self) -> u8 {
        self.count
    }
}

impl Default for KeyAllocator {
    fn default() -> Self {
        Self::new()
    }
}

const fn bit(key: Pkey) -> u16 {
    1 << key.index()
}
