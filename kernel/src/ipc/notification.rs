//! Notifications: bits are set, and whoever waits takes them all.

use super::{Notification, Signal};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::abi::Error;
use libpks::cap::{CapRights, Handle, ObjectKind, Owner};

/// What a notification costs its maker.
const NOTIFICATION_BYTES: u64 = size_of::<Notification>() as u64;

impl Kernel {
    /// Makes a notification.
    ///
    /// # Errors
    /// `QuotaExceeded`, `OutOfMemory`, `LimitReached`.
    pub(crate) fn create_notification(&mut self, thread: Ref<Thread>) -> Result<Handle, Error> {
        let domain = self.seat(thread).domain;
        self.charge(domain, NOTIFICATION_BYTES)?;
        let made = self.notifications.insert(Notification { refs: 1, ..Notification::default() });
        let rights = CapRights::SIGNAL | CapRights::WAIT | CapRights::GRANT | CapRights::MANAGE;
        let object = made.map_err(Error::from).map(|at| at.object(ObjectKind::Notification));
        let handle = object.and_then(|object| self.give_root(Owner(domain.number()), object, rights));
        handle.inspect_err(|_| self.refund(domain, NOTIFICATION_BYTES))
    }

    /// Sets bits. If somebody waits, the first gets all that are set.
    pub(crate) fn signal(&mut self, Signal { notification, bits }: Signal) {
        let Some(books) = self.notifications.get_mut(notification) else { return };
        books.bits |= bits;
        if books.bits == 0 {
            return;
        }
        if let Some(waiter) = books.waiters.head {
            let bits = core::mem::take(&mut books.bits);
            self.wake(waiter, Ok([bits, 0, 0, 0, 0, 0, 0, 0]));
        }
    }

    /// Takes the bits, or lets the thread wait for some. `None`: it waits.
    pub(crate) fn wait(
        &mut self,
        thread: Ref<Thread>,
        notification: Ref<Notification>,
        deadline: u64,
    ) -> Option<u64> {
        match self.take_bits(notification) {
            Some(bits) => Some(bits),
            None => {
                self.block(thread, State::Waiting(notification), deadline);
                None
            }
        }
    }

    /// Takes the bits, if there are any.
    pub(crate) fn take_bits(&mut self, notification: Ref<Notification>) -> Option<u64> {
        let bits = core::mem::take(&mut self.notifications[notification].bits);
        (bits != 0).then_some(bits)
    }

    /// The last capability to a notification has gone: nobody can signal it any more.
    pub(crate) fn destroy_notification(&mut self, at: Ref<Notification>) {
        while let Some(waiter) = self.notifications.get(at).and_then(|books| books.waiters.head) {
            self.wake(waiter, Err(Error::Gone));
        }
        self.notifications.remove(at);
    }
}
