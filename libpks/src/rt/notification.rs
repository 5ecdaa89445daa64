//! Notifications: a word of bits to set and to wait for.
#![forbid(unsafe_code)]

use super::gate::{syscall, syscall_until};
use super::handle::{Owned, capabilities};
use super::time::{Instant, deadline_word};
use crate::abi::{Error, Syscall};
use crate::cap::ObjectKind;

capabilities! {
    /// A word of bits that interrupts and other domains set.
    Notification, Some(ObjectKind::Notification);
}

impl Notification {
    /// Makes a notification, with all rights to it.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub fn create() -> Result<Owned<Self>, Error> {
        Ok(Owned::from_word(syscall(Syscall::NotificationCreate, [])?.words[0]))
    }

    /// Sets bits. A badge of the capability, if it has one, masks them.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn signal(self, bits: u64) -> Result<(), Error> {
        syscall(Syscall::Signal, [self.word(), bits]).map(drop)
    }

    /// Takes the bits, waiting until there are any.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline, [`Error::Gone`].
    pub fn wait(self, deadline: Option<Instant>) -> Result<u64, Error> {
        Ok(syscall_until(Syscall::Wait, [self.word()], deadline_word(deadline))?.words[0])
    }

    /// Takes the bits that are there.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if there are none.
    pub fn poll(self) -> Result<u64, Error> {
        Ok(syscall(Syscall::Poll, [self.word()])?.words[0])
    }
}
