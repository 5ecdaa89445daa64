//! Domains whose budget is used up: when they get the next one, and which of their threads wait for it.

use super::Level;
use super::queue::HELD_BACK;
use crate::domain::Domain;
use crate::list::List;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};

/// What a domain waits for whose budget is used up.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// When the next budget comes, in nanoseconds since boot, as far as was known when it ran out.
    due: u64,
    /// The one after it in the list of those that wait, which is sorted.
    next: Option<Ref<Domain>>,
    /// Its threads in the background that are ready, or wait for a call to be accepted.
    held_back: List<Thread>,
}

impl Kernel {
    /// Puts a domain whose budget is used up into the list.
    pub(super) fn await_budget(&mut self, domain: Ref<Domain>) {
        let due = self.domains[domain].account.next_budget_at();
        let (mut previous, mut next) = (None, self.depleted);
        while let Some(at) = next.filter(|&at| self.domains[at].renewal.due <= due) {
            (previous, next) = (Some(at), self.domains[at].renewal.next);
        }
        let renewal = &mut self.domains[domain].renewal;
        (renewal.due, renewal.next) = (due, next);
        match previous {
            Some(at) => self.domains[at].renewal.next = Some(domain),
            None => self.depleted = Some(domain),
        }
    }

    /// When the first domain gets its next budget.
    pub(super) fn next_budget_due(&self) -> Option<u64> {
        self.depleted.map(|domain| self.domains[domain].renewal.due)
    }

    /// Gives their next budgets to the domains for which it is time.
    pub(crate) fn renew_budgets(&mut self, now: u64) {
        while let Some(domain) = self.depleted.filter(|&domain| self.domains[domain].renewal.due <= now) {
            let books = &mut self.domains[domain];
            self.depleted = books.renewal.next.take();
            let _ = books.account.renew(now);
            if books.account.is_depleted() {
                // It has a debt from calls or other CPUs.
                self.await_budget(domain);
            } else {
                self.bring_forward(domain);
            }
        }
    }

    /// Puts the threads of a domain with a new budget where they belong now.
    fn bring_forward(&mut self, domain: Ref<Domain>) {
        while let Some(thread) = self.domains[domain].renewal.held_back.head {
            let doing = self.unlink(thread);
            self.relink(thread, doing);
            if let State::Calling(endpoint) = doing.0 {
                self.lend_priority(thread, endpoint);
            }
        }
    }

    /// A thread has got into a queue at this level. If that is for want of a budget the domain remembers it.
    pub(super) fn note_held_back(&mut self, thread: Ref<Thread>, level: Level) {
        let Some(payer) = self.payer(thread).filter(|_| level == Level::BACKGROUND) else { return };
        let books = &mut self.domains[payer];
        if !books.account.is_depleted() {
            return;
        }
        books.renewal.held_back.push(&mut self.threads, HELD_BACK, thread);
        self.threads[thread].held_back = true;
    }

    /// The thread leaves that queue.
    pub(super) fn forget_held_back(&mut self, thread: Ref<Thread>) {
        let books = &mut self.threads[thread];
        if core::mem::take(&mut books.held_back) {
            let home = books.home.domain;
            self.domains[home].renewal.held_back.remove(&mut self.threads, HELD_BACK, thread);
        }
    }

    /// A domain has ended: it gets no budget any more, and none of its threads waits for one.
    pub(crate) fn close_account(&mut self, domain: Ref<Domain>) {
        while let Some(thread) = self.domains[domain].renewal.held_back.head {
            self.forget_held_back(thread);
        }
        let next = self.domains[domain].renewal.next.take();
        if self.depleted == Some(domain) {
            self.depleted = next;
            return;
        }
        let mut at = self.depleted;
        while let Some(waiting) = at {
            at = self.domains[waiting].renewal.next;
            if at == Some(domain) {
                self.domains[waiting].renewal.next = next;
                return;
            }
        }
    }
}
