//! Deadlines of threads.

use super::queue::TIMERS;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::abi::Error;

impl Kernel {
    /// Puts a thread into the timer list, in order, or takes it out.
    pub(super) fn set_deadline(&mut self, thread: Ref<Thread>, deadline: u64) {
        if self.threads[thread].deadline != 0 {
            self.timers.remove(&mut self.threads, TIMERS, thread);
        }
        self.threads[thread].deadline = deadline;
        if deadline == 0 {
            return;
        }
        // Who parks for ever stands at the end and is many; who sleeps for a while comes before them.
        let mut behind = self.timers.tail;
        if behind.is_some_and(|last| self.threads[last].deadline > deadline) {
            let (mut before, mut next) = (None, self.timers.head);
            while let Some(at) = next.filter(|&at| self.threads[at].deadline <= deadline) {
                (before, next) = (Some(at), self.threads[at].timer.next);
            }
            behind = before;
        }
        self.timers.insert_behind(&mut self.threads, TIMERS, thread, behind);
    }

    /// Wakes whoever's deadline has passed.
    pub(crate) fn expire_deadlines(&mut self, now: u64) {
        while let Some(thread) = self.timers.head.filter(|&thread| self.threads[thread].deadline <= now) {
            let slept = self.threads[thread].state == State::Sleeping;
            self.wake(thread, if slept { Ok([0; 8]) } else { Err(Error::TimedOut) });
        }
    }
}
