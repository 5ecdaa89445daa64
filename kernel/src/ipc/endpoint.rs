//! Endpoints: made, served, and no longer served.

use super::{Activation, Endpoint, MAX_ACTIVATIONS, Server};
use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use libpks::abi::inspect::DomainState;
use libpks::abi::{Error, layout};
use libpks::cap::{CapRights, Handle, ObjectKind, Owner};

/// What an endpoint costs its maker.
const ENDPOINT_BYTES: u64 = size_of::<Endpoint>() as u64;
/// What an activation costs the server, its memory aside: itself, and the thread that may have to take it over.
const ACTIVATION_BYTES: u64 = (size_of::<Activation>() + size_of::<Thread>()) as u64;

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
        self.endpoints[at].server = Some(Server { domain, entry, cookie, free: None });
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
            thread: None,
            below: None,
            caller_rsp: 0,
            loans: heapless::Vec::new(),
            next_free: None,
        };
        self.activations.insert(activation).map_err(|_| {
            self.release_seat(&seat);
            self.spare_threads -= 1;
            Error::OutOfMemory
        })
    }

    /// An activation is free.
    pub(super) fn put_back(&mut self, activation: Ref<Activation>) {
        let endpoint = self.activations[activation].endpoint;
        if let Some(server) = self.endpoints.get_mut(endpoint).and_then(|endpoint| endpoint.server.as_mut()) {
            self.activations[activation].next_free = server.free.replace(activation);
        }
    }

    /// Takes a free activation.
    pub(super) fn take_free(&mut self, endpoint: Ref<Endpoint>) -> Option<Ref<Activation>> {
        let server = self.endpoints[endpoint].server.as_mut()?;
        let activation = server.free?;
        server.free = self.activations[activation].next_free.take();
        Some(activation)
    }

    /// The domain lets nobody in any more. Its activations stay, for those who are in them.
    pub(crate) fn close_endpoints_of(&mut self, domain: Ref<Domain>) {
        for number in 0..self.endpoints.capacity() {
            let Some(at) = self.endpoints.at_number(number) else { continue };
            if self.endpoints[at].server.is_some_and(|server| server.domain == domain) {
                self.endpoints[at].server = None;
            }
        }
    }

    /// Removes a domain's activations. Nobody is in them.
    pub(crate) fn remove_activations_of(&mut self, domain: Ref<Domain>) {
        self.remove_activations(|activation| activation.seat.domain == domain);
    }

    /// Takes the server from an endpoint, with all activations. Callers that wait stay.
    fn dismiss_server(&mut self, endpoint: Ref<Endpoint>) {
        let server = self.endpoints[endpoint].server.take();
        self.remove_activations(|activation| activation.endpoint == endpoint);
        // A domain lives for its threads and for what it serves.
        let deserted = server.map(|server| server.domain).filter(|&domain| {
            self.domains.get(domain).is_some_and(|books| books.threads == 0) && !self.serves(domain)
        });
        if let Some(domain) = deserted {
            self.doom(domain, DomainState::Exited);
        }
    }

    fn remove_activations(&mut self, goes: impl Fn(&Activation) -> bool) {
        for number in 0..self.activations.capacity() {
            let Some(at) = self.activations.at_number(number) else { continue };
            if goes(&self.activations[at])
                && let Some(activation) = self.activations.remove(at)
            {
                self.release_seat(&activation.seat);
                self.refund(activation.seat.domain, ACTIVATION_BYTES);
                self.spare_threads -= 1;
            }
        }
    }

    /// The last capability to an endpoint has gone: nobody can call or serve it any more.
    pub(crate) fn destroy_endpoint(&mut self, at: Ref<Endpoint>) {
        while let Some(caller) = self.endpoints.get(at).and_then(|books| books.callers.head) {
            self.wake(caller, Err(Error::Gone));
        }
        let busy = (0..self.activations.capacity())
            .filter_map(|number| self.activations.at_number(number))
            .any(|activation| {
                self.activations[activation].endpoint == at && self.activations[activation].thread.is_some()
            });
        if busy {
            // The calls that are being served end first; the last one takes the endpoint along.
            return;
        }
        if self.endpoints.get(at).is_none() {
            return;
        }
        self.dismiss_server(at);
        if let Some(Endpoint { payer: Some(payer), .. }) = self.endpoints.remove(at) {
            self.refund_lasting(payer, ENDPOINT_BYTES);
        }
    }
}
