//! CPU time: who pays for it, who runs at what level, which server hangs. The rules are in `libpks::budget`; what they
//! are for is told in docs/cpu-time.md.

use super::Level;
use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use core::fmt::Write;
use libpks::abi::fault::FaultKind;
use libpks::budget::{CallTime, Standing, Turn, elapsed_ns};

impl Kernel {
    /// The domain that pays for a thread: the one where it began, in whatever server it is. Nobody does once that domain
    /// has ended, nor for a call that goes on though the server that made it has died.
    pub(super) fn payer(&self, thread: Ref<Thread>) -> Option<Ref<Domain>> {
        let books = &self.threads[thread];
        let home = books.home.domain;
        (books.owns_home && self.domains.get(home).is_some_and(Domain::is_alive)).then_some(home)
    }

    /// How a thread runs by the budget that pays for it, whatever is lent to it.
    fn standing(&self, thread: Ref<Thread>) -> Standing {
        let account = self.payer(thread).map(|domain| &self.domains[domain].account);
        // At home there is nothing beyond the budget.
        let at_home = CallTime::begin(Standing::InBackground);
        self.threads[thread].top.map_or(at_home, |at| self.activations[at].time).standing(account)
    }

    /// How urgent a thread is: what its priority and its budget say, or what is lent to it.
    pub(crate) fn level(&self, thread: Ref<Thread>) -> Level {
        let books = &self.threads[thread];
        let own = match self.standing(thread) {
            Standing::AtPriority => Level::of(books.priority),
            Standing::InBackground => Level::BACKGROUND,
        };
        own.max(books.lent)
    }

    /// The time of a call that a thread makes now.
    pub(crate) fn begin_call_time(&self, thread: Ref<Thread>) -> CallTime {
        CallTime::begin(self.standing(thread))
    }

    /// Charges what has passed on a CPU since this was done last to who runs there. Gives what no budget was there for.
    pub(super) fn charge_cpu(&mut self, cpu: usize, now: u64) -> u64 {
        let books = self.cpu(cpu);
        let ns = elapsed_ns(core::mem::replace(&mut books.settled, now), now);
        let thread = books.current;
        if thread == books.idle {
            return 0;
        }
        let Some(domain) = self.payer(thread) else {
            // It is seen where it is used. Behind its last call the thread is nowhere.
            let server = self.seat(thread).domain;
            if let Some(server) = self.domains.get_mut(server) {
                let _ = server.account.charge(ns, Standing::InBackground);
            }
            return ns;
        };
        let standing = match self.level(thread) {
            Level::BACKGROUND => Standing::InBackground,
            _ => Standing::AtPriority,
        };
        let account = &mut self.domains[domain].account;
        // One without a budget gets it from the list of those that wait for theirs.
        if !account.is_depleted() {
            let _ = account.renew(now);
        }
        let left = account.left_ns();
        if account.charge(ns, standing) == Turn::Depleted {
            self.await_budget(domain);
        }
        ns.saturating_sub(left)
    }

    /// The same for time that the thread has run by itself: what no budget was there for is the overrun of its call.
    pub(crate) fn charge_own_time(&mut self, cpu: usize, now: u64) {
        let thread = self.cpu(cpu).current;
        let beyond = self.charge_cpu(cpu, now);
        if let Some(at) = self.threads[thread].top {
            self.activations[at].time.go_beyond(beyond);
        }
    }

    /// How long a thread may run until something changes: its budget ends, or that for its call.
    pub(super) fn allowance(&self, thread: Ref<Thread>) -> u64 {
        let account = self.payer(thread).map(|domain| &self.domains[domain].account);
        if let Some(account) = account.filter(|account| !account.is_depleted()) {
            return account.left_ns();
        }
        match self.threads[thread].top {
            Some(at) => {
                let activation = &self.activations[at];
                let overrun_ns = self.domains[activation.seat.domain].overrun_ns;
                activation.time.left_of(overrun_ns).unwrap_or(0)
            }
            None => u64::MAX,
        }
    }

    /// Ends the server in which a thread is, if its call has gone on for longer than the client's budget and the
    /// server's overrun budget together. Asked where an interrupt finds the thread at work: a server that is just about
    /// to reply does not hang.
    pub(crate) fn end_if_hung(&mut self, thread: Ref<Thread>) {
        let Some(at) = self.threads[thread].top else { return };
        let server = self.activations[at].seat.domain;
        let overrun_ns = self.domains[server].overrun_ns;
        if self.activations[at].time.left_of(overrun_ns).is_some() {
            return;
        }
        let client = self.payer(thread).map(|domain| self.domains[domain].name.clone());
        let client = client.as_deref().unwrap_or("a domain that has ended");
        let mut text = heapless::String::<128>::new();
        // Cut where it does not fit.
        let _ = write!(
            text,
            "a call ran {} ms of CPU time beyond the budget of {client}",
            overrun_ns / 1_000_000
        );
        self.fault(thread, Some((FaultKind::Hung, &text)));
    }

    /// Moves the threads at the head of a CPU's queues whose budget has ended since they were put there. Each thread is
    /// moved once for each time that its budget ends.
    pub(super) fn sort_out(&mut self, cpu: usize) {
        loop {
            let ready = &self.cpu(cpu).ready;
            let Some(level) = ready.highest() else { return };
            let Some(first) = ready.first(level) else { return };
            if self.level(first) >= level {
                return;
            }
            self.pull_ready(first, cpu);
            self.push_ready(first, cpu, super::queue::QueueEnd::Back);
        }
    }

    /// Lends a level to a thread, wherever it is.
    pub(crate) fn set_lent(&mut self, thread: Ref<Thread>, lent: Level) {
        if matches!(self.threads[thread].state, State::Running(_)) {
            self.threads[thread].lent = lent;
            return;
        }
        let doing = self.unlink(thread);
        self.threads[thread].lent = lent;
        self.relink(thread, doing);
    }
}
