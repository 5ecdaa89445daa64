//! The end of a domain: its threads, the calls it was serving, what it held, its memory.

use super::Domain;
use super::revive::Fate;
use crate::arch::window;
use crate::ipc::Activation;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{Ending, HOME, Thread};
use libpks::abi::Error;
use libpks::abi::inspect::DomainState;
use libpks::cap::{CapRights, ObjectKind, Owner};
use libpks::pkey::Pkrs;

impl Kernel {
    /// Ends a domain when this event is over: before then its objects may be in use further up on the kernel's stack, and
    /// whoever asked for it has no answer yet. No CPU runs the domain meanwhile but this one, in the kernel.
    pub(crate) fn doom(&mut self, domain: Ref<Domain>, state: DomainState) {
        let Some(books) = self.domains.get_mut(domain).filter(|books| books.is_alive()) else { return };
        books.ends_as.get_or_insert(state);
        self.look_after_domain(domain);
    }

    /// The last capability to a domain has gone: nobody can stop it any more, so it is stopped; and its number is free.
    pub(crate) fn forget_domain(&mut self, domain: Ref<Domain>) {
        self.doom(domain, DomainState::Stopped);
        self.look_after_domain(domain);
    }

    fn look_after_domain(&mut self, domain: Ref<Domain>) {
        let first = self.doomed;
        let Some(books) = self.domains.get_mut(domain).filter(|books| !books.doomed) else { return };
        (books.doomed, books.next_doomed) = (true, first);
        self.doomed = Some(domain);
    }

    /// Ends the domains that were doomed in this event, and those that this dooms.
    pub(crate) fn end_doomed(&mut self) {
        while let Some(domain) = self.doomed {
            let books = &mut self.domains[domain];
            self.doomed = books.next_doomed.take();
            books.doomed = false;
            if let Some(state) = books.ends_as.take().filter(|_| books.is_alive()) {
                self.end_domain(domain, state);
            }
            let books = &self.domains[domain];
            if books.refs == 0 && !books.doomed {
                let (quota, free) = (books.quota, books.quota_bytes - books.used_bytes);
                self.leave_view(domain);
                self.domains.remove(domain);
                self.return_quota(quota, free);
            }
        }
    }

    /// Ends a domain for good. Afterwards no thread is in it, nothing of it is mapped, and whoever waits for it has been
    /// told; its number stays taken until its last capability goes.
    fn end_domain(&mut self, domain: Ref<Domain>, state: DomainState) {
        self.domains[domain].state = state;
        if self.log_drainer == Some(domain) {
            self.stop_draining();
            // Why it ended is among what it has not read.
            crate::log::send_rest(self.log_drained);
        }
        log::info!(target: "domain", "{} ended: {state:?}", self.domains[domain].name);
        // Nobody is let in any more: who waits until a call is accepted goes on waiting, for the next server.
        self.close_endpoints_of(domain);
        // Then nobody runs in it any more, on any CPU.
        self.leave_calls_into(domain);
        self.end_threads_of(domain);
        self.sync_cpus();
        self.remove_activations_of(domain);
        self.unbind_lines_of(domain);
        let fate = self.fate_of(domain);
        if fate == Fate::Over {
            self.empty_space(Owner(domain.number()));
        }
        let openings = self.domains[domain].openings.take();
        self.drop_openings(domain, openings);
        self.release_domain_memory(domain);
        if fate == Fate::Again && self.revive(domain) {
            return;
        }
        self.close_account(domain);
        self.return_share(domain);
        if let Some(signal) = self.domains[domain].on_end.take() {
            self.signal(signal);
        }
        if self.is_deserted() {
            let name = &self.domains[domain].name;
            crate::give_up(format_args!("`{name}` was the last domain, and nobody is left to start another"));
        }
    }

    /// A domain has lost a capability to another. Without another one to manage it, it is not told of its end.
    pub(crate) fn narrow_end_hearer(&mut self, at: Ref<Domain>, owner: Owner) {
        let hearer = self.domains.get(at).and_then(|books| books.on_end).map(|signal| signal.owner);
        let object = at.object(ObjectKind::Domain);
        if hearer == Some(owner) && !self.caps.rights_to(owner, object).contains(CapRights::MANAGE) {
            self.domains[at].on_end = None;
        }
    }

    /// Whether no domain is alive but the one that idles. While `init` lives this cannot be.
    pub(super) fn is_deserted(&mut self) -> bool {
        let idle = self.cpu(window::cpu()).idle;
        let idle = self.threads[idle].home.domain;
        let mut domains = (0..self.domains.capacity()).filter_map(|number| self.domains.at_number(number));
        domains.all(|domain| domain == idle || !self.domains[domain].is_alive())
    }

    /// Every thread that is in a call to the domain comes back out of it: its caller learns that the peer died. What
    /// the domain itself had called goes on, without anybody to answer to.
    fn leave_calls_into(&mut self, domain: Ref<Domain>) {
        let mut next = self.domains[domain].activations.head;
        while let Some(activation) = next {
            let Activation { thread, domain_links, .. } = &self.activations[activation];
            next = domain_links.next;
            let Some(thread) = *thread else { continue };
            while let Some(at) = self.highest_call_into(thread, domain) {
                if self.threads[thread].top != Some(at) {
                    self.split_above(thread, at);
                }
                self.abandon_top(thread);
            }
            if next.is_some_and(|next| self.activations.get(next).is_none()) {
                // The thread was in that one too, and it went with the call.
                next = self.domains[domain].activations.head;
            }
        }
    }

    /// The innermost call of a thread that is served by the domain. A thread without a caller to go back to has ended with
    /// its last call.
    fn highest_call_into(&self, thread: Ref<Thread>, domain: Ref<Domain>) -> Option<Ref<Activation>> {
        let mut at = self.threads.get(thread)?.top;
        while let Some(activation) = at {
            if self.activations[activation].seat.domain == domain {
                return Some(activation);
            }
            at = self.activations[activation].below;
        }
        None
    }

    /// Gives the calls above an activation to a thread of their own, which goes on with whatever the thread was doing;
    /// the thread itself is left in the activation, in no queue. Room for the new thread was reserved when the
    /// activation was made, so this cannot fail.
    fn split_above(&mut self, thread: Ref<Thread>, at: Ref<Activation>) {
        let doing = self.unlink(thread);
        let original = &self.threads[thread];
        let mut upper = Thread::new(original.home, original.priority, original.record);
        upper.lent = original.lent;
        (upper.top, upper.cpu, upper.bound) = (original.top, original.cpu, original.bound);
        (upper.orphan, upper.owns_home) = (true, false);
        upper.fault = original.fault;
        // Its home is somebody else's: it is never returned to.
        upper.home.openings = None;
        let upper = self.threads.insert(upper).expect("reserved with every activation");
        let mut call = self.threads[upper].top;
        while let Some(activation) = call.filter(|&call| call != at) {
            self.activations[activation].thread = Some(upper);
            self.threads[upper].depth += 1;
            call = self.activations[activation].below;
            if call == Some(at) {
                self.activations[activation].below = None;
            }
        }
        self.relink(upper, doing);
        let depth = self.threads[upper].depth;
        let lower = &mut self.threads[thread];
        (lower.top, lower.fault) = (Some(at), None);
        lower.depth -= depth;
    }

    /// A thread comes back out of its innermost call, whose server has died.
    fn abandon_top(&mut self, thread: Ref<Thread>) {
        self.unlink(thread);
        self.threads[thread].fault = None;
        if self.leave_call(thread) {
            self.answer(thread, Err(Error::PeerDiedMidCall));
            self.make_ready(thread);
        }
    }

    /// Threads that began in the domain end; one that is in a call elsewhere ends when the call returns. It never comes
    /// home: neither to what it has open there, nor to its context, which may be somebody else's by then.
    pub(super) fn end_threads_of(&mut self, domain: Ref<Domain>) {
        while let Some(thread) = self.domains[domain].homes.head {
            if self.threads[thread].top.is_none() {
                self.end_thread(thread, Ending::Killed);
                continue;
            }
            let home = &mut self.domains[domain];
            home.homes.remove(&mut self.threads, HOME, thread);
            home.threads -= 1;
            let books = &mut self.threads[thread];
            (books.orphan, books.owns_home) = (true, false);
            books.home.word = Pkrs::DEFAULT;
            let openings = books.home.openings.take();
            self.drop_openings(domain, openings);
        }
    }
}
