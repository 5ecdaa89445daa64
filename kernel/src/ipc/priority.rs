//! Priorities along calls: a server works for the most urgent of its caller and those who wait for it.
//!
//! Who waits lends how urgent it is, and not its budget: the time is still charged to who made the call that is being
//! served, and ends with the server's overrun budget. A waiter without a budget lends nothing.

use super::{Endpoint, MAX_ACTIVATIONS};
use crate::object::Ref;
use crate::sched::Level;
use crate::state::Kernel;
use crate::thread::{State, Thread};

/// How far a priority is lent on from server to server. A chain of calls is no longer than that.
const MAX_HOPS: usize = super::MAX_DEPTH as usize;

impl Kernel {
    /// Lends the priority of a thread that waits at an endpoint to those who are served there, and on to whom those
    /// wait for.
    pub(crate) fn lend_priority(&mut self, waiter: Ref<Thread>, endpoint: Ref<Endpoint>) {
        let level = self.level(waiter);
        let mut next: heapless::Vec<Ref<Endpoint>, MAX_HOPS> = heapless::Vec::new();
        let _ = next.push(endpoint);
        let mut hops = 0;
        while let Some(&at) = next.get(hops) {
            hops += 1;
            let served: heapless::Vec<Ref<Thread>, { MAX_ACTIVATIONS as usize }> = self
                .activations_at(at)
                .filter_map(|activation| self.activations[activation].thread)
                .collect();
            for served in served {
                if self.threads[served].lent >= level {
                    continue;
                }
                // It is kept even where the thread is as urgent already: its budget may end.
                self.set_lent(served, level);
                if let State::Calling(further) = self.threads[served].state {
                    // Beyond the last hop nobody is hurried, which is no more than a late reply.
                    let _ = next.push(further);
                }
            }
        }
    }

    /// A thread has left a call, or begun one: it is lent what those have who wait for the calls in which it is now. It
    /// is in no queue.
    pub(super) fn take_what_is_lent(&mut self, thread: Ref<Thread>) {
        let mut lent = Level::BACKGROUND;
        let mut at = self.threads[thread].top;
        while let Some(activation) = at.map(|at| &self.activations[at]) {
            at = activation.below;
            let head = self.first_caller(activation.endpoint);
            lent = head.map_or(lent, |head| lent.max(self.level(head)));
        }
        self.threads[thread].lent = lent;
    }

    /// The most urgent of those who wait at an endpoint. Who stands at the head and has lost its budget since it came
    /// goes behind those who have theirs, once.
    pub(super) fn first_caller(&mut self, endpoint: Ref<Endpoint>) -> Option<Ref<Thread>> {
        loop {
            let head = self.endpoints.get(endpoint)?.callers.head?;
            if self.level(head) >= self.threads[head].queued {
                return Some(head);
            }
            let doing = self.unlink(head);
            self.relink(head, doing);
        }
    }
}
