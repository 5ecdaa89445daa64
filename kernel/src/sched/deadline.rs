//! Deadlines of threads.

use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::abi::Error;

impl Kernel {
    /// Puts a thread into the timer list, in order, or takes it out.
    pub(super) fn set_deadline(&mut self, thread: Ref<Thread>, deadline: u64) {
        if self.threads[thread].deadline != 0 {
            let links = core::mem::take(&mut self.threads[thread].timer);
            match links.previous {
                Some(at) => self.threads[at].timer.next = links.next,
                None => self.timers = links.next,
            }
            if let Some(at) = links.next {
                self.threads[at].timer.previous = links.previous;
            }
        }
        self.threads[thread].deadline = deadline;
        if deadline == 0 {
            return;
        }
        let (mut previous, mut next) = (None, self.timers);
        while let Some(at) = next.filter(|&at| self.threads[at].deadline <= deadline) {
            (previous, next) = (Some(at), self.threads[at].timer.next);
        }
        (self.threads[thread].timer.previous, self.threads[thread].timer.next) = (previous, next);
        match previous {
            Some(at) => self.threads[at].timer.next = Some(thread),
            None => self.timers = Some(thread),
        }
        if let Some(at) = next {
            self.threads[at].timer.previous = Some(thread);
        }
    }

    /// Wakes whoever's deadline has passed.
    pub(crate) fn expire_deadlines(&mut self, now: u64) {
        while let Some(thread) = self.timers.filter(|&thread| self.threads[thread].deadline <= now) {
            let slept = self.threads[thread].state == State::Sleeping;
            self.wake(thread, if slept { Ok([0; 8]) } else { Err(Error::TimedOut) });
        }
    }
}
