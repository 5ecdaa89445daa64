//! How CPUs and threads agree without a lock above them: a latch that one holds at a time, and who is in the kernel.
//!
//! Small on purpose: `just loom` runs this code under loom, which tries every interleaving and every value that the
//! memory model lets a load see. What an ordering is for stands beside it; with a weaker one a model fails.
#![forbid(unsafe_code)]

mod latch;
mod presence;

pub use latch::Latch;
pub use presence::{Bell, Presence, Range};

/// What the protocols are made of.
#[cfg(not(loom))]
mod parts {
    pub(super) use core::sync::atomic::{AtomicBool, Ordering};
    use spin::{Mutex, MutexGuard};

    /// A value that is changed by one at a time.
    #[derive(Debug)]
    pub(super) struct Locked<T>(Mutex<T>);

    impl<T> Locked<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }
}

/// The same, watched by loom.
#[cfg(loom)]
mod parts {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Mutex, MutexGuard};

    #[derive(Debug)]
    pub(super) struct Locked<T>(Mutex<T>);

    impl<T> Locked<T> {
        pub(super) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics ends")
        }
    }
}
