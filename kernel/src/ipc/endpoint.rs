//! Endpoints: made, served, and no longer served.

use super::{ACTIVATIONS, Activation, Endpoint, MAX_ACTIVATIONS, SERVED, Server};
use crate::domain::Domain;
use crate::list::Links;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use libpks::abi::inspect::DomainState;
use libpks::abi::message::MAX_TRANSFERS;
use libpks::abi::{Error, layout};
use libpks::budget::{CallTime, Standing};
use libpks::cap::{CapRights, Handle, Node, ObjectKind, Owner};
use libpks::table::Slot;

/// What an endpoint costs its maker.
const ENDPOINT_BYTES: u64 = size_of::<Endpoint>() as u64;
/// What an activation costs the server, its memory aside: itself, the thread that may have to take it over, and the
/// nodes of loans that were dropped before the call in it has ended.
const ACTIVATION_BYTES: u64 =
    (size_of::<Activation>() + size_of::<Thread>() + MAX_TRANSFERS * size_of::<Slot<Node>>()) as u64;

/// What a server says when it begins to serve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServeRequest {
    pub(crate) entry: u64,
    pub(crate) cookie: u64,
    pub(crate) activations: u64,
    pub(crate) stack_bytes: u64,
}

impl Kernel {
    /// Makes an endpoint.
    ///
    /// # Errors
    /// `QuotaExceeded`, `OutOfMemory`, `LimitReached`.
    pub(crate) fn create_endpoint(&mut self, thread: Ref<Thread>) -> Result<Handle, Error> {
        let domain = self.seat(thread).domain;
        let payer = self.charge_lasting(domain, ENDPOINT_BYTES)?;
        let made = self
            .endpoints
            .insert(Endpoint { payer: Some(payer), refs: 1, ..Endpoint::default() })
            .inspect_err(|_| self.refund_lasting(payer, ENDPOINT_BYTES))?;
        let rights = CapRights::CALL | CapRights::SERVE | CapRights::GRANT | CapRights::MANAGE;
        self.give_root(Owner(domain.number()), made.object(ObjectKind::Endpoint), rights)
    }

    /// A domain begins to serve an endpoint. Whoever waits there already is served at once.
    ///
    /// # Errors
    /// `Busy` if it is served, `InvalidArgument` for an entry outside of the domain's slot or no or too many
    /// activations, `QuotaExceeded`, `OutOfMemory`, `LimitReached`.
    pub(crate) fn serve(
        &mut self,
        domain: Ref<Domain>,
        at: Ref<Endpoint>,
        request: ServeRequest,
    ) -> Result<(), Error> {
        let ServeRequest { entry, cookie, activations, stack_bytes } = request;
        if self.endpoints[at].server.is_some() {
            return Err(Error::Busy);
        }
        let base = self.domains[domain].base;
        let in_slot = (base..base + layout::SLOT_BYTES).contains(&entry);
        if !in_slot || activations == 0 || activations > MAX_ACTIVATIONS {
            return Err(Error::InvalidArgument);
        }
        self.endpoints[at].server = Some(Server { domain, entry, cookie, first: None, free: None });
        self.domains[domain].served.push(&mut self.endpoints, SERVED, at);
        for _ in 0..activations {
            if let Err(error) = self.add_activation(domain, at, stack_bytes) {
                self.dismiss_server(at);
                return Err(error);
            }
        }
        while self.accept_next(at) {}
        Ok(())
    }

    fn add_activation(
        &mut self,
        domain: Ref<Domain>,
        endpoint: Ref<Endpoint>,
        stack_bytes: u64,
    ) -> Result<(), Error> {
        self.charge(domain, ACTIVATION_BYTES)?;
        let made = self.new_activation(domain, endpoint, stack_bytes);
        let activation = made.inspect_err(|_| self.refund(domain, ACTIVATION_BYTES))?;
        self.put_back(activation);
        Ok(())
    }

    fn new_activation(
        &mut self,
        domain: Ref<Domain>,
        endpoint: Ref<Endpoint>,
        stack_bytes: u64,
    ) -> Result<Ref<Activation>, Error> {
        self.reserve_thread()?;
        let seat = self.create_seat(domain, stack_bytes).inspect_err(|_| self.spare_threads -= 1)?;
        let activation = Activation {
            endpoint,
            seat,
            domain_links: Links::NONE,
            thread: None,
            below: None,
            caller_rsp: 0,
            time: CallTime::begin(Standing::InBackground),
            loans: heapless::Vec::new(),
            sibling: None,
            dismissed: false,
            next_free: None,
            available: 0,
            calls: 0,
        };
        let made = self.activations.insert(activation).map_err(|_| {
            self.release_seat(&seat);
            self.spare_threads -= 1;
            Error::OutOfMemory
        })?;
        self.domains[domain].activations.push(&mut self.activations, ACTIVATIONS, made);
        if let Some(server) = &mut self.endpoints[endpoint].server {
            self.activations[made].sibling = server.first.replace(made);
        }
        Ok(made)
    }

    /// The activations in which calls to an endpoint can be accepted.
    pub(super) fn activations_at(&self, endpoint: Ref<Endpoint>) -> impl Iterator<Item = Ref<Activation>> {
        let server = self.endpoints.get(endpoint).and_then(|books| books.server);
        core::iter::successors(server.and_then(|server| server.first), |&at| self.activations[at].sibling)
    }

    /// An activation is free. One whose domain does not serve the endpoint any more goes.
    pub(super) fn put_back(&mut self, activation: Ref<Activation>) {
        let Activation { endpoint, seat, dismissed, .. } = &self.activations[activation];
        let (endpoint, domain, dismissed) = (*endpoint, seat.domain, *dismissed);
        let server = self.endpoints.get_mut(endpoint).and_then(|endpoint| endpoint.server.as_mut());
        match server.filter(|server| server.domain == domain && !dismissed) {
            Some(server) => {
                let next = server.free.replace(activation);
                let word = self.derive_word(&self.activations[activation].seat);
                let books = &mut self.activations[activation];
                (books.next_free, books.seat.word, books.available) = (next, word, 1);
            }
            None => {
                self.remove_activation(activation);
                self.end_if_deserted(domain);
            }
        }
    }

    /// Takes a free activation.
    pub(super) fn take_free(&mut self, endpoint: Ref<Endpoint>) -> Option<Ref<Activation>> {
        let server = self.endpoints[endpoint].server.as_mut()?;
        let activation = server.free?;
        let books = &mut self.activations[activation];
        server.free = books.next_free.take();
        books.available = 0;
        Some(activation)
    }

    /// Takes one that is free, wherever it stands in the list.
    pub(super) fn take_this(&mut self, activation: Ref<Activation>) {
        let books = &mut self.activations[activation];
        let (next, endpoint) = (books.next_free.take(), books.endpoint);
        books.available = 0;
        let Some(server) = self.endpoints.get_mut(endpoint).and_then(|books| books.server.as_mut()) else {
            return;
        };
        if server.free == Some(activation) {
            server.free = next;
            return;
        }
        let mut at = server.free;
        while let Some(before) = at {
            let books = &mut self.activations[before];
            if books.next_free == Some(activation) {
                books.next_free = next;
                return;
            }
            at = books.next_free;
        }
    }

    /// The domain lets nobody in any more. Its activations stay, for those who are in them.
    pub(crate) fn close_endpoints_of(&mut self, domain: Ref<Domain>) {
        while let Some(at) = self.domains[domain].served.head {
            self.take_server(at);
        }
        self.forget_connections();
    }

    /// Calls that the activations that a domain has now have accepted.
    pub(crate) fn calls_accepted_by(&self, domain: Ref<Domain>) -> u64 {
        self.activations_of(domain).map(|at| self.activations[at].calls).sum()
    }

    /// All activations of a domain.
    pub(crate) fn activations_of(&self, domain: Ref<Domain>) -> impl Iterator<Item = Ref<Activation>> {
        let next = |at: &Ref<Activation>| self.activations[*at].domain_links.next;
        core::iter::successors(self.domains[domain].activations.head, next)
    }

    /// Removes a domain's activations. Nobody is in them.
    pub(crate) fn remove_activations_of(&mut self, domain: Ref<Domain>) {
        while let Some(at) = self.domains[domain].activations.head {
            self.remove_activation(at);
        }
    }

    /// A domain has lost a capability to an endpoint, through which it may have called. Without another one to serve it
    /// nobody is let in any more; calls that it has accepted come to their end.
    pub(crate) fn narrow_server(&mut self, at: Ref<Endpoint>, owner: Owner) {
        self.forget_connections();
        let served = self.endpoints.get(at).and_then(|books| books.server);
        let theirs = served.is_some_and(|server| server.domain.number() == owner.0);
        let object = at.object(ObjectKind::Endpoint);
        if theirs && !self.caps.rights_to(owner, object).contains(CapRights::SERVE) {
            self.dismiss_server(at);
        }
    }

    /// Takes the server from an endpoint; its activations stay.
    fn take_server(&mut self, endpoint: Ref<Endpoint>) -> Option<Server> {
        let server = self.endpoints[endpoint].server.take()?;
        self.domains[server.domain].served.remove(&mut self.endpoints, SERVED, endpoint);
        Some(server)
    }

    /// Takes the server from an endpoint, with all activations that nobody is in. Callers that wait stay.
    fn dismiss_server(&mut self, endpoint: Ref<Endpoint>) {
        let Some(server) = self.take_server(endpoint) else { return };
        self.forget_connections();
        let mut next = server.first;
        while let Some(at) = next {
            let books = &mut self.activations[at];
            next = books.sibling.take();
            books.dismissed = true;
            if books.thread.is_none() {
                self.remove_activation(at);
            }
        }
        self.end_if_deserted(server.domain);
    }

    /// A domain lives for its threads, for what it serves, and for the calls that it has accepted.
    fn end_if_deserted(&mut self, domain: Ref<Domain>) {
        if self.domains.get(domain).is_none_or(|books| books.threads > 0) || self.serves(domain) {
            return;
        }
        if self.activations_of(domain).all(|at| self.activations[at].thread.is_none()) {
            self.doom(domain, DomainState::Exited);
        }
    }

    fn remove_activation(&mut self, at: Ref<Activation>) {
        let domain = self.activations[at].seat.domain;
        self.domains[domain].activations.remove(&mut self.activations, ACTIVATIONS, at);
        if let Some(activation) = self.activations.remove(at) {
            self.forget_connections();
            self.domains[domain].calls += activation.calls;
            self.release_seat(&activation.seat);
            self.refund(domain, ACTIVATION_BYTES);
            self.spare_threads -= 1;
        }
    }

    /// The last capability to an endpoint has gone: nobody can call or serve it any more.
    pub(crate) fn destroy_endpoint(&mut self, at: Ref<Endpoint>) {
        while let Some(caller) = self.endpoints.get(at).and_then(|books| books.callers.head) {
            self.wake(caller, Err(Error::Gone));
        }
        // The calls that are being served end first; the last one takes the endpoint along.
        if self.endpoints.get(at).is_none_or(|books| books.accepted > 0) {
            return;
        }
        self.dismiss_server(at);
        if let Some(Endpoint { payer: Some(payer), .. }) = self.endpoints.remove(at) {
            self.refund_lasting(payer, ENDPOINT_BYTES);
        }
    }
}
