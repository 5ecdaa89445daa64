//! The kernel's lock, who is inside, and what the others must forget.
//!
//! A CPU that is in the kernel, or waits for its lock, touches no domain's memory and runs under no domain's rights;
//! before it leaves it reloads both, and forgets the translations that it was asked to forget. So whoever holds the lock
//! and has changed rights or mappings waits only for the CPUs that run a domain.
//!
//! While one CPU holds the lock no other leaves, so the flags of the others can only rise.

use super::Latch;
use super::parts::{AtomicBool, Locked, Ordering};
use heapless::Vec;

/// A range of addresses: the first, and the number of pages.
pub type Range = (u64, u64);

/// How the holder of the lock gets another CPU in.
pub trait Bell {
    /// Sends an interrupt to a CPU that runs a domain.
    fn kick(&mut self, cpu: usize);
    /// Called again and again while that CPU has not come.
    fn wait(&mut self, cpu: usize);
}

/// Which of `CPUS` CPUs are in the kernel, which of them holds its lock, and up to `RANGES` ranges for each to forget.
///
/// In memory it begins with a byte for the lock and one for each CPU, where a debugger can look at them.
#[derive(Debug)]
#[repr(C)]
pub struct Presence<const CPUS: usize, const RANGES: usize> {
    held: Latch,
    inside: [AtomicBool; CPUS],
    stale: [Locked<Vec<Range, RANGES>>; CPUS],
}

impl<const CPUS: usize, const RANGES: usize> Presence<CPUS, RANGES> {
    /// All CPUs are inside, as they are while the machine starts, and nobody holds the lock.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            held: Latch::new(),
            inside: [const { AtomicBool::new(true) }; CPUS],
            stale: [const { Locked::new(Vec::new()) }; CPUS],
        }
    }

    /// All CPUs are inside, as they are while the machine starts, and nobody holds the lock.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            held: Latch::new(),
            inside: core::array::from_fn(|_| AtomicBool::new(true)),
            stale: core::array::from_fn(|_| Locked::new(Vec::new())),
        }
    }

    /// Comes in and takes the lock. `wait_fn` runs between tries; `forget_fn` runs for each range that this CPU must
    /// forget, also while it waits: whoever asks may be waiting for room in its list.
    #[inline]
    pub fn enter(&self, cpu: usize, mut wait_fn: impl FnMut(), mut forget_fn: impl FnMut(Range)) {
        // Release: what the domain did on this CPU is over for whoever sees the flag. Nothing here must wait for the
        // store to be seen by all: who looks too early sends a needless interrupt and looks again.
        self.inside[cpu].store(true, Ordering::Release);
        while !self.held.try_take() {
            self.forget(cpu, &mut forget_fn);
            wait_fn();
        }
        self.forget(cpu, forget_fn);
    }

    /// Gives the lock back and leaves for a domain. Only its holder may.
    #[inline]
    pub fn leave(&self, cpu: usize) {
        // Under the lock still: who takes it next sees this CPU as running a domain. That the latch orders; by itself
        // the store orders nothing.
        self.inside[cpu].store(false, Ordering::Relaxed);
        self.held.release();
    }

    /// Whether a CPU is in the kernel or waits to be. For the holder of the lock it stays so.
    #[inline]
    #[must_use]
    pub fn is_inside(&self, cpu: usize) -> bool {
        // Acquire: pairs with `enter`. What a domain did on that CPU comes before what the caller does next.
        self.inside[cpu].load(Ordering::Acquire)
    }

    /// Has a CPU forget what others asked it to forget.
    #[inline]
    pub fn forget(&self, cpu: usize, forget_fn: impl FnMut(Range)) {
        let mut ranges = self.stale[cpu].lock();
        ranges.iter().copied().for_each(forget_fn);
        ranges.clear();
    }

    /// Gets the `others` in and returns when all are inside. What they find when they leave is what the caller, who holds
    /// the lock, has written until then.
    pub fn gather(&self, others: impl Iterator<Item = usize> + Clone, bell: &mut impl Bell) {
        for cpu in others.clone().filter(|&cpu| !self.is_inside(cpu)) {
            bell.kick(cpu);
        }
        for cpu in others {
            self.wait_for(cpu, bell);
        }
    }

    /// Has all `others` forget a range. When it returns, none runs a domain with a translation of it, and none will. The
    /// caller holds the lock and has changed the page tables.
    pub fn invalidate(
        &self,
        range: Range,
        others: impl Iterator<Item = usize> + Clone,
        bell: &mut impl Bell,
    ) {
        for cpu in others.clone() {
            while self.stale[cpu].lock().push(range).is_err() {
                // It empties the list as soon as it is inside.
                if !self.is_inside(cpu) {
                    bell.kick(cpu);
                    self.wait_for(cpu, bell);
                }
                bell.wait(cpu);
            }
        }
        self.gather(others, bell);
    }

    fn wait_for(&self, cpu: usize, bell: &mut impl Bell) {
        while !self.is_inside(cpu) {
            bell.wait(cpu);
        }
    }
}

impl<const CPUS: usize, const RANGES: usize> Default for Presence<CPUS, RANGES> {
    fn default() -> Self {
        Self::new()
    }
}
