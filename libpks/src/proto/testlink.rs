//! The protocol of the test link: what the harness on the host asks of the guest over the second serial port.
//!
//! Each [`Asked`] travels in a frame of its own ([`crate::wire`]) and is answered by one [`Answered`] with the same
//! number. A frame that is damaged is dropped by whoever receives it; the harness asks again, and a request that comes
//! with the number of the last one is answered again without being carried out twice.
#![forbid(unsafe_code)]

use super::adversary::Consequence;
use super::pks_test::{Outcome, Page, Verdict};
use super::stress;
use crate::abi::fault::FaultReport;
use crate::abi::inspect::{DomainInfo, SystemInfo};
use crate::abi::{Error, Name};
use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 1;
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
    /// The domain at this position: [`Reply::Domain`].
    Domain {
        /// Position, from 0.
        index: u32,
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
    /// Run random steps: [`Reply::Stressed`].
    Stress(stress::Session),
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
    /// What came of the random steps.
    Stressed(stress::Reply),
    /// What has happened since the start, as the guest has counted it.
    Closing(Closing),
    /// It could not be done.
    Failed(Problem),
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
    /// Scenarios that were skipped.
    pub skipped: u32,
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
            Verdict::Skip => &mut self.skipped,
        };
        *counter = counter.saturating_add(1);
    }
}
