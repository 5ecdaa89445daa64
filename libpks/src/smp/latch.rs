//! A flag that one holds at a time.

use super::parts::{AtomicBool, Ordering};

/// Taken by one, until that one releases it. What it did before happens before what the next one does.
#[derive(Debug)]
pub struct Latch(AtomicBool);

impl Latch {
    /// A latch that nobody holds.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// A latch that nobody holds.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Takes the latch; `false` if another holds it.
    #[inline]
    #[must_use]
    pub fn try_take(&self) -> bool {
        // Acquire: pairs with `release`. A failed try gives nothing that must be ordered.
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives it back. Only who holds it may.
    #[inline]
    pub fn release(&self) {
        // Release: what was done under the latch is over for whoever takes it next.
        self.0.store(false, Ordering::Release);
    }
}

impl Default for Latch {
    fn default() -> Self {
        Self::new()
    }
}
