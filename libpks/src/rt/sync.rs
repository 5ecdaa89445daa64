//! A lock between the threads of one domain.

use super::time;
use crate::abi::Syscall;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

/// How often a waiter yields before it sleeps.
const YIELDS: u32 = 4;
/// How long it sleeps then: yielding alone would starve a holder of lower priority.
const NAP: Duration = Duration::from_micros(50);

/// A lock that threads of one domain may hold for a short time. It does not nest, and one that is not released stays
/// taken: do not call other servers while holding it.
#[derive(Debug)]
pub struct Mutex<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached only through the one `Guard` that `taken` allows at a time, so the threads take turns;
// handing the value from one to the other is what T: Send permits.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A lock around `value`, not taken.
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting until it is free.
    pub fn lock(&self) -> Guard<'_, T> {
        let mut tries = 0;
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            if tries < YIELDS {
                tries += 1;
                let _ = super::gate::syscall(Syscall::Yield, []);
            } else {
                let _ = time::sleep(NAP);
            }
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(Guard { mutex: self })
    }
}

/// The lock while it is held.
#[derive(Debug)]
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, and it is borrowed for as long as the reference lives.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and it is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.mutex.taken.store(false, Ordering::Release);
    }
}
