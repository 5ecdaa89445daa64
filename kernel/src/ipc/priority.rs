//! Priorities along calls: a server works for the most urgent of its caller and those who wait for it.

use super::{Activation, Endpoint};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};

/// How far a priority is lent on from server to server. A chain of calls is no longer than that.
const MAX_HOPS: usize = super::MAX_DEPTH as usize;

impl Kernel {
    /// Lends the priority of a thread that waits at an endpoint to those who are served there, and on to whom those
    /// wait for.
    pub(super) fn lend_priority(&mut self, waiter: Ref<Thread>, endpoint: Ref<Endpoint>) {
        let priority = self.threads[waiter].priority;
        let mut next: heapless::Vec<Ref<Endpoint>, MAX_HOPS> = heapless::Vec::new();
        let _ = next.push(endpoint);
        let mut hops = 0;
        while let Some(&at) = next.get(hops) {
            hops += 1;
            for number in 0..self.activations.capacity() {
                let Some(served) = self.served_in(number, at) else { continue };
                if self.threads[served].priority >= priority {
                    continue;
                }
                self.set_priority(served, priority);
                if let State::Calling(further) = self.threads[served].state {
                    // Beyond the last hop nobody is hurried, which is no more than a late reply.
                    let _ = next.push(further);
                }
            }
        }
    }

    /// The thread in the activation with this number, if that is one of the endpoint.
    fn served_in(&self, number: u32, endpoint: Ref<Endpoint>) -> Option<Ref<Thread>> {
        let activation: &Activation = &self.activations[self.activations.at_number(number)?];
        activation.thread.filter(|_| activation.endpoint == endpoint)
    }

    /// A thread has left a call: it keeps what it is lent by those who wait for the calls in which it still is. It is
    /// in no queue.
    pub(super) fn return_priority(&mut self, thread: Ref<Thread>) {
        let mut priority = self.threads[thread].base_priority;
        let mut at = self.threads[thread].top;
        while let Some(activation) = at.map(|at| &self.activations[at]) {
            at = activation.below;
            let head = self.endpoints.get(activation.endpoint).and_then(|endpoint| endpoint.callers.head);
            priority = head.map_or(priority, |head| priority.max(self.threads[head].priority));
        }
        self.threads[thread].priority = priority;
    }

    /// Changes the priority of a thread, wherever it waits.
    fn set_priority(&mut self, thread: Ref<Thread>, priority: u8) {
        if matches!(self.threads[thread].state, State::Running(_)) {
            self.threads[thread].priority = priority;
            return;
        }
        let doing = self.unlink(thread);
        self.threads[thread].priority = priority;
        self.relink(thread, doing);
    }
}
