//! Calls between domains, and notifications.
//!
//! A call is synchronous: the caller's thread itself goes into the server's domain, on a stack of the server's, and
//! comes back with the reply. docs/ipc.md has the rules.

mod call;
mod endpoint;
mod handover;
mod notification;
pub(crate) mod passage;
mod priority;
mod transfer;

pub(crate) use endpoint::ServeRequest;

use crate::domain::{Domain, Payer};
use crate::list::{Chain, Links, List};
use crate::object::Ref;
use crate::thread::{Seat, Thread};
use libpks::budget::CallTime;
use libpks::cap::{Handle, Loan, Owner};

/// How many calls deep a chain may be.
pub(crate) const MAX_DEPTH: u8 = 8;
/// The most activations that a server may have at an endpoint.
pub(crate) const MAX_ACTIVATIONS: u64 = 64;

/// The endpoints that a domain serves.
const SERVED: Chain<Endpoint> = |endpoint| &mut endpoint.served_links;
/// The activations of a domain.
const ACTIVATIONS: Chain<Activation> = |activation| &mut activation.domain_links;

/// Where calls are made and served.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) server: Option<Server>,
    /// Its neighbours among those that its server serves.
    served_links: Links<Endpoint>,
    /// Who waits until a call is accepted. They stay when the server dies: the next one finds them.
    pub(crate) callers: List<Thread>,
    pub(crate) payer: Option<Payer>,
    /// Calls that were accepted here and have not ended, whoever served the endpoint then.
    pub(crate) accepted: u32,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

/// Who serves an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) domain: Ref<Domain>,
    pub(crate) entry: u64,
    pub(crate) cookie: u64,
    /// The first of its activations, and the first that is free.
    pub(crate) first: Option<Ref<Activation>>,
    pub(crate) free: Option<Ref<Activation>>,
}

/// A place in a server where one call at a time is served.
#[derive(Debug)]
pub(crate) struct Activation {
    pub(crate) endpoint: Ref<Endpoint>,
    pub(crate) seat: Seat,
    /// Its neighbours among all of its domain.
    pub(crate) domain_links: Links<Activation>,
    /// The thread that is in it.
    pub(crate) thread: Option<Ref<Thread>>,
    /// The call from which it was called; none if that was from the thread's home.
    pub(crate) below: Option<Ref<Activation>>,
    /// The caller's stack pointer.
    pub(crate) caller_rsp: u64,
    /// What the call has used beyond the budget of who pays for it.
    pub(crate) time: CallTime,
    /// What was lent for the length of the call.
    pub(crate) loans: heapless::Vec<Loan, { libpks::abi::message::MAX_TRANSFERS }>,
    /// The next activation of the server at this endpoint.
    pub(crate) sibling: Option<Ref<Activation>>,
    /// The server was dismissed while somebody was in it: it goes when that call ends.
    pub(crate) dismissed: bool,
    /// The next free activation of the endpoint.
    pub(crate) next_free: Option<Ref<Activation>>,
    /// 1 if nobody is in it and it is in the endpoint's list of free ones, else 0. For the entry code.
    pub(crate) available: u32,
    /// Calls that it has accepted.
    pub(crate) calls: u64,
}

/// A word of bits to set and to wait for.
#[derive(Debug, Default)]
pub(crate) struct Notification {
    pub(crate) bits: u64,
    pub(crate) waiters: List<Thread>,
    pub(crate) payer: Option<Payer>,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

/// Bits to set in a notification when something happens. It is good as long as the capability is through which it was
/// asked for: when that is revoked, deleted or handed over, nothing is signalled any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    pub(crate) notification: Ref<Notification>,
    pub(crate) bits: u64,
    /// Who asked for it.
    pub(crate) owner: Owner,
    /// The capability to the notification.
    pub(crate) through: Handle,
}
