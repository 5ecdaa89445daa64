//! The protocol of the test link: what the harness on the host asks of the guest over the second serial port.
//!
//! Each [`Asked`] travels in a frame of its own ([`crate::wire`]) and is answered by one [`Answered`] with the same
//! number. A frame that is damaged is dropped by whoever receives it; the harness asks again, and a request that comes
//! with the number of the last one is answered again without being carried out twice.
#![forbid(unsafe_code)]

use super::adversary::{self, Consequence, Death};
use super::fuzzer;
use super::pks_test::{Outcome, Page, Verdict};
use super::{stress, supervisor};
use crate::abi::fault::FaultReport;
use crate::abi::inspect::{DomainInfo, Objects, SystemInfo};
use crate::abi::{Error, Name};
use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 4;
/// Bytes that a message takes at most before it is framed.
pub const MAX_BYTES: usize = 3072;

/// A request and its number, which the harness counts up from 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Its number.
    pub number: u32,
    /// What is asked.
    pub request: Request,
}

/// An answer and the number of its request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The number of the request.
    pub number: u32,
    /// The answer.
    pub reply: Reply,
}

/// What the harness asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Whether the guest is there: [`Reply::Ready`].
    Hello,
    /// The scenarios from this position on: [`Reply::Listing`].
    List {
        /// Position of the first that is wanted.
        from: u32,
    },
    /// Run a scenario, the crash included: [`Reply::Outcome`].
    Run {
        /// Its name.
        name: Name,
    },
    /// The domain with the least number that is this or more: [`Reply::Domain`].
    Domain {
        /// Number.
        from: u32,
    },
    /// The fault report at this position, the newest first: [`Reply::Fault`].
    Fault {
        /// Position, from 0.
        index: u32,
    },
    /// Start, stop or restart a server: [`Reply::Done`].
    Server {
        /// Its name.
        name: Name,
        /// What to do with it.
        action: Action,
    },
    /// Have the adversary commit a crime, aimed at the test link's own memory or the kernel's: [`Reply::Crime`].
    Crime {
        /// Its name.
        name: Name,
    },
    /// Have the adversary die so many times in a row, while others call it all along: [`Reply::Endured`].
    Endure {
        /// How it dies.
        death: Death,
        /// How often.
        times: u32,
    },
    /// Call the adversary patiently: [`Reply::Persisted`].
    Persist(adversary::Request),
    /// How many of everything there is: [`Reply::Objects`].
    Objects,
    /// The servers as the supervisor knows them: [`Reply::Servers`].
    Servers,
    /// The fault that ended a server last, as the supervisor knows it: [`Reply::Fault`].
    LastFault {
        /// The server's name.
        name: Name,
    },
    /// End a server, or the supervisor, by a fault in its name, whatever it is doing: [`Reply::Done`].
    Kill {
        /// The domain's name.
        name: Name,
    },
    /// Have the supervisor die at a moment: [`Reply::Done`], also when that is now.
    Doom {
        /// When.
        moment: supervisor::Moment,
        /// How.
        death: supervisor::Death,
    },
    /// Run random steps: [`Reply::Stressed`].
    Stress(stress::Session),
    /// Make random calls of the kernel: [`Reply::Fuzzed`].
    Fuzz(fuzzer::Session),
    /// End the test: [`Reply::Closing`], after which the guest leaves QEMU.
    Finish,
}

/// What can be done with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop it and start it again.
    Restart,
}

/// What the guest answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The guest is there.
    Ready {
        /// [`VERSION`].
        version: u32,
        /// [`crate::abi::VERSION`].
        abi: u32,
        /// The machine.
        system: SystemInfo,
    },
    /// A part of the list of scenarios; empty past its end.
    Listing(Page),
    /// A scenario has run.
    Outcome(Outcome),
    /// A domain, or nothing past the last.
    Domain(Option<DomainInfo>),
    /// A fault report, or nothing past the oldest.
    Fault(Option<FaultReport>),
    /// The server was started, stopped or restarted.
    Done,
    /// What came of the crime.
    Crime(Consequence),
    /// What came of the calls to a server that died all the time.
    Endured(Endured),
    /// How a patient call ended.
    Persisted {
        /// The end.
        end: Persisted,
        /// How often the server was started again meanwhile.
        restarts: u32,
    },
    /// How many of everything there is.
    Objects(Objects),
    /// The servers.
    Servers(heapless::Vec<supervisor::ServerInfo, { supervisor::LIST_SERVERS }>),
    /// What came of the random steps.
    Stressed(stress::Reply),
    /// What came of the random calls.
    Fuzzed(fuzzer::Reply),
    /// What has happened since the start, as the guest has counted it.
    Closing(Closing),
    /// It could not be done.
    Failed(Problem),
}

/// What came of the calls to a server that died all the time. Each call is in one of the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Endured {
    /// Deaths that were asked for and came.
    pub deaths: u32,
    /// How often the supervisor started the server again.
    pub restarts: u32,
    /// Calls of the bystander that got their reply.
    pub answered: u32,
    /// Calls of the bystander that ended with the typed error of a server's death.
    pub died: u32,
    /// Calls that ended in any other way.
    pub other: u32,
    /// Milliseconds that it took.
    pub millis: u32,
}

/// How a patient call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Persisted {
    /// With a reply.
    Answered,
    /// With an error.
    Failed(Error),
    /// It was given up: it had killed its server so many times.
    Killer(u32),
}

/// Why a request could not be carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Problem {
    /// No scenario has that name.
    #[error("no such scenario")]
    UnknownScenario,
    /// No crime has that name.
    #[error("no such crime")]
    UnknownCrime,
    /// The test link was not given what that needs.
    #[error("the test link lacks the capability {0}")]
    Lacking(Name),
    /// The server said something that does not answer what it was asked.
    #[error("unexpected answer")]
    Unexpected,
    /// An operation of the kernel failed.
    #[error("{0}")]
    Kernel(Error),
    /// A server refused.
    #[error("refused")]
    Refused,
}

/// The closing record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Closing {
    /// Scenarios that passed.
    pub passed: u32,
    /// Scenarios that failed.
    pub failed: u32,
    /// Requests that were carried out, [`Request::Finish`] included.
    pub requests: u32,
    /// Frames that were damaged.
    pub damaged: u32,
}

impl Closing {
    /// Counts the outcome of a scenario.
    pub fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Pass => &mut self.passed,
            Verdict::Fail => &mut self.failed,
        };
        *counter = counter.saturating_add(1);
    }
}
