//! The protocol of the supervisor, which `init` serves: which servers there are, and starting and stopping them.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::fault::FaultReport;
use crate::abi::{Error, Name};
use crate::retry::Repetition;
use serde::{Deserialize, Serialize};

/// Servers that one listing tells of at most.
pub const LIST_SERVERS: usize = 16;

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Supervisor;

impl Protocol for Supervisor {
    const NAME: &'static str = "supervisor";
    type Request = Request;
    type Reply = Reply;

    fn repetition(request: &Request) -> Repetition {
        match request {
            Request::List { .. } | Request::Fault(_) => Repetition::Harmless,
            _ => Repetition::Harmful,
        }
    }
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which servers there are, from this position on. Gives [`Reply::Servers`].
    List {
        /// Position of the first that is wanted.
        from: u32,
    },
    /// Start a server that does not run. Gives [`Reply::Done`].
    Start(Name),
    /// Stop a server. It is not restarted. Gives [`Reply::Done`].
    Stop(Name),
    /// Stop a server if it runs, and start it. Gives [`Reply::Done`].
    Restart(Name),
    /// The fault that ended a server last, the supervisor included. Gives [`Reply::Fault`].
    Fault(Name),
    /// Die at this moment, for tests; from a client alone that has the powers `supervise` and `self-test`. Gives
    /// [`Reply::Done`], unless that moment is now.
    Die(Moment, Death),
    /// Look after servers that have ended; from the supervisor's own thread alone. Gives [`Reply::Attended`].
    Attend,
}

/// When the supervisor dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// Now.
    Now,
    /// When it has made a domain, and granted nothing to it yet.
    Made,
    /// When it has granted to a domain all that it is to have, and not started it yet.
    Granted,
    /// When it has started a domain, and not written that down yet.
    Started,
    /// When it has found that a server has ended, and done nothing about it yet.
    Found,
    /// When it has stopped a server to start it again, and not started it yet.
    Between,
    /// When it has written down half of what the next supervisor is to know.
    HalfWritten,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Now, Self::Made, Self::Granted, Self::Started, Self::Found, Self::Between, Self::HalfWritten];
}

/// How the supervisor dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Death {
    /// It panics.
    Panic,
    /// It writes where nothing is.
    Fault,
}

/// How a server is, in the supervisor's eyes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Condition {
    /// It runs.
    Running,
    /// It will be started again.
    Waiting,
    /// It was stopped, or has ended and policy leaves it at that.
    Stopped,
    /// It could not be made or started.
    Refused(Error),
}

/// A server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its name.
    pub name: Name,
    /// How it is.
    pub condition: Condition,
    /// How often it was started again.
    pub restarts: u32,
}

/// What the supervisor answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// A part of the list; ask again from its end until it is empty.
    Servers(heapless::Vec<ServerInfo, LIST_SERVERS>),
    /// It is done.
    Done,
    /// The fault, if there was one.
    Fault(Option<FaultReport>),
    /// When the supervisor must look again at the latest, in nanoseconds since boot; 0 if there is no need.
    Attended(u64),
    /// It was not done.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No server has that name.
    #[error("no such server")]
    UnknownServer,
    /// It runs already.
    #[error("server runs already")]
    Running,
    /// It does not run.
    #[error("server does not run")]
    NotRunning,
    /// The request is for the supervisor itself, or the client may only look.
    #[error("not permitted")]
    NotYours,
    /// The kernel would not have it.
    #[error("{0}")]
    Kernel(Error),
}
