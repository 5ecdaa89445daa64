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
        let payer = self.charge_lasting(domain, NOTIFICATION_BYTES)?;
        let books = Notification { payer: Some(payer), refs: 1, ..Notification::default() };
        let made = self
            .notifications
            .insert(books)
            .inspect_err(|_| self.refund_lasting(payer, NOTIFICATION_BYTES))?;
        let rights = CapRights::SIGNAL | CapRights::WAIT | CapRights::GRANT | CapRights::MANAGE;
        self.give_root(Owner(domain.number()), made.object(ObjectKind::Notification), rights)
    }

    /// Whether whoever asked for a signal still holds the capability through which that was done.
    pub(crate) fn is_heard(&self, signal: &Signal) -> bool {
        self.caps.lookup(signal.owner, signal.through).is_ok()
    }

    /// Sets bits, if somebody is there to hear of it. If somebody waits, the first gets all that are set.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if !self.is_heard(&signal) {
            return;
        }
        let Signal { notification, bits, .. } = signal;
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

    /// A domain has lost a capability to a notification. Threads of it that wait there need another one.
    pub(crate) fn narrow_waiters(&mut self, at: Ref<Notification>, owner: Owner) {
        let Some(books) = self.notifications.get(at).filter(|books| books.waiters.head.is_some()) else {
            return;
        };
        if self.caps.rights_to(owner, at.object(ObjectKind::Notification)).contains(CapRights::WAIT) {
            return;
        }
        let mut next = books.waiters.head;
        while let Some(waiter) = next {
            next = self.threads[waiter].links.next;
            if self.owner(waiter) == owner {
                self.wake(waiter, Err(Error::Gone));
            }
        }
    }

    /// The last capability to a notification has gone: nobody can signal it any more.
    pub(crate) fn destroy_notification(&mut self, at: Ref<Notification>) {
        while let Some(waiter) = self.notifications.get(at).and_then(|books| books.waiters.head) {
            self.wake(waiter, Err(Error::Gone));
        }
        if let Some(Notification { payer: Some(payer), .. }) = self.notifications.remove(at) {
            self.refund_lasting(payer, NOTIFICATION_BYTES);
        }
    }
}
