//! The two ends of a [ring](crate::ring) in a region, for servers.
//!
//! Each end has the region open for as long as it lives, so sending and taking write no PKRS and do not enter the kernel. Only
//! waiting does, and waking who waits.

use super::notification::Notification;
use super::region::{Region, WriteGuard};
use super::time::Instant;
use crate::abi::Error;
use crate::ring::{self, RingError, Words};
use core::arch::asm;
use thiserror::Error as ThisError;

/// The bit of a notification that tells of the ring.
const BIT: u64 = 1;
/// Bytes of a word.
const WORD: u64 = 8;

/// Why a ring does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ThisError)]
pub enum RingFailure {
    /// The region or the other end.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// What the kernel says of the region or a notification.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// A region's words, while it is open.
#[derive(Debug)]
struct Open {
    guard: WriteGuard,
    count: usize,
}

impl Open {
    fn new(region: Region) -> Result<Self, Error> {
        let guard = region.open_write()?;
        let count = usize::try_from(guard.bytes() / WORD).map_err(|_| Error::TooLarge)?;
        Ok(Self { guard, count })
    }

    /// The address of `length` words from `at` on.
    #[inline(always)]
    fn place(&self, at: usize, length: usize) -> u64 {
        assert!(at <= self.count && length <= self.count - at, "beyond the ring");
        self.guard.address() + at as u64 * WORD
    }
}

/// Reads a word.
///
/// # Safety
/// The address is that of an aligned word in a region.
#[inline(always)]
unsafe fn read(address: u64) -> u64 {
    let word;
    // SAFETY: as the caller promises; no reference into a region exists, and if it is not open any more the access faults and
    // ends the domain. A load on x86 is an acquire, and without `nomem` the compiler moves no access across it.
    unsafe { asm!("mov {}, [{}]", out(reg) word, in(reg) address, options(nostack, preserves_flags)) };
    word
}

/// Writes a word.
///
/// # Safety
/// As [`read`].
#[inline(always)]
unsafe fn write(address: u64, word: u64) {
    // SAFETY: as in `read`; a store on x86 is a release.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) word, options(nostack, preserves_flags)) };
}

impl Words for Open {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn load(&self, at: usize) -> u64 {
        // SAFETY: `place` gives a word of the region, whose address is page-aligned.
        unsafe { read(self.place(at, 1)) }
    }

    #[inline(always)]
    fn store(&self, at: usize, value: u64) {
        // SAFETY: as in `load`.
        unsafe { write(self.place(at, 1), value) }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> [u64; N] {
        let first = self.place(at, N);
        // SAFETY: as in `load`; all N words lie within the region.
        core::array::from_fn(|n| unsafe { read(first + n as u64 * WORD) })
    }

    #[inline(always)]
    fn write<const N: usize>(&self, at: usize, words: &[u64; N]) {
        let first = self.place(at, N);
        for (n, word) in words.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { write(first + n as u64 * WORD, *word) };
        }
    }

    #[inline(always)]
    fn fence(&self) {
        // SAFETY: MFENCE has no operand; without `nomem` the compiler moves no access across it.
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    }
}

/// The end that sends messages of `N` words. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Sender<const N: usize> {
    end: ring::Sender<N, Open>,
    arrived: Notification,
    room: Notification,
}

impl<const N: usize> Sender<N> {
    /// The sending end of a ring in a fresh region. `arrived` is what the receiver waits for, `room` what this end does.
    ///
    /// # Errors
    /// [`RingError::TooSmall`]; those of [`Region::open_write`].
    pub fn new(region: Region, arrived: Notification, room: Notification) -> Result<Self, RingFailure> {
        Ok(Self { end: ring::Sender::new(Open::new(region)?)?, arrived, room })
    }

    /// Sends a message, if there is room; gives whether there was. Who waits for it is woken by [`flush`](Self::flush) only.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was sent then.
    #[inline(always)]
    pub fn send(&mut self, message: &[u64; N]) -> Result<bool, RingFailure> {
        Ok(self.end.send(message)?)
    }

    /// Sends as many of the messages as there is room for; gives how many. It costs less than one by one.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was sent then.
    #[inline(always)]
    pub fn send_batch(&mut self, messages: &[[u64; N]]) -> Result<usize, RingFailure> {
        Ok(self.end.send_batch(messages)?)
    }

    /// Wakes the receiver if it waits: to be called after a batch.
    ///
    /// # Errors
    /// Those of [`Notification::signal`].
    pub fn flush(&self) -> Result<(), RingFailure> {
        wake(self.end.must_wake(), self.arrived)
    }

    /// Sends a message and wakes the receiver, waiting for room if need be.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline, [`Error::Gone`]; [`RingError::Corrupt`]. Nothing was sent then.
    pub fn send_until(&mut self, message: &[u64; N], deadline: Option<Instant>) -> Result<(), RingFailure> {
        while !self.send(message)? {
            self.flush()?;
            if self.end.begin_to_wait()? {
                let woken = self.room.wait(deadline);
                self.end.stop_waiting();
                woken?;
            }
        }
        self.flush()
    }
}

/// The end that takes messages of `N` words. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Receiver<const N: usize> {
    end: ring::Receiver<N, Open>,
    arrived: Notification,
    room: Notification,
}

impl<const N: usize> Receiver<N> {
    /// The taking end of a ring in a fresh region. `arrived` is what this end waits for, `room` what the sender does.
    ///
    /// # Errors
    /// As [`Sender::new`].
    pub fn new(region: Region, arrived: Notification, room: Notification) -> Result<Self, RingFailure> {
        Ok(Self { end: ring::Receiver::new(Open::new(region)?)?, arrived, room })
    }

    /// Takes the next message, if there is one. Who waits for room is woken by [`flush`](Self::flush) only.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was taken then.
    #[inline(always)]
    pub fn take(&mut self) -> Result<Option<[u64; N]>, RingFailure> {
        Ok(self.end.take()?)
    }

    /// Takes as many messages as there are and fit; gives how many. It costs less than one by one.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was taken then.
    #[inline(always)]
    pub fn take_batch(&mut self, into: &mut [[u64; N]]) -> Result<usize, RingFailure> {
        Ok(self.end.take_batch(into)?)
    }

    /// Wakes the sender if it waits: to be called after a batch.
    ///
    /// # Errors
    /// Those of [`Notification::signal`].
    pub fn flush(&self) -> Result<(), RingFailure> {
        wake(self.end.must_wake(), self.room)
    }

    /// Takes the next message, waiting for it if need be; the sender is woken before. What this thread has sent through another
    /// ring it must have flushed, or both sides wait.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline, [`Error::Gone`]; [`RingError::Corrupt`]. Nothing was taken then.
    pub fn take_until(&mut self, deadline: Option<Instant>) -> Result<[u64; N], RingFailure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.flush()?;
            if self.end.begin_to_wait()? {
                let woken = self.arrived.wait(deadline);
                self.end.stop_waiting();
                woken?;
            }
        }
    }
}

fn wake(must: bool, whom: Notification) -> Result<(), RingFailure> {
    if must { Ok(whom.signal(BIT)?) } else { Ok(()) }
}
