//! What `fuzzer` does: it has expendable domains make random calls of the kernel, and looks at what is left of the system.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::Error;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The domain that judges.
pub const SERVER: &str = "fuzzer";
/// Room for the words of a failure.
pub type Words = heapless::String<900>;
/// Outcomes by the code of their error; 0 is success.
pub type Outcomes = [u32; 32];

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Fuzzer;

impl Protocol for Fuzzer {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Make random calls. The same request makes the same ones, as far as the interleaving of threads lets it.
    Run(Session),
}

/// A run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// What the calls are drawn from.
    pub seed: u64,
    /// How many are made at least.
    pub calls: u32,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, calls } = self;
        write!(f, "seed={seed:#x} calls={calls}")
    }
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that went into the kernel.
    pub calls: u64,
    /// Those of them that came back, by outcome.
    pub outcomes: Outcomes,
    /// Those that did not: with them their thread or domain ended, or they waited until it was stopped.
    pub unfinished: u32,
    /// Domains that made calls.
    pub workers: u32,
    /// Those of them that a fault ended.
    pub faulted: u32,
    /// Those that had to be stopped because they waited.
    pub stopped: u32,
    /// Comparisons with what was before.
    pub checks: u64,
}

impl Tally {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum = sum.saturating_add(more);
        }
        self.unfinished = self.unfinished.saturating_add(other.unfinished);
        self.workers = self.workers.saturating_add(other.workers);
        self.faulted = self.faulted.saturating_add(other.faulted);
        self.stopped = self.stopped.saturating_add(other.stopped);
        self.checks = self.checks.saturating_add(other.checks);
    }

    /// Calls that the kernel carried out.
    #[must_use]
    pub const fn done(&self) -> u32 {
        self.outcomes[0]
    }

    /// How many different errors there were.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.outcomes[1..].iter().filter(|count| **count > 0).count()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, unfinished, workers, faulted, stopped, checks, .. } = self;
        write!(
            f,
            "{calls} calls, {} done, {unfinished} unfinished, {workers} workers, {faulted} faulted, {stopped} \
             stopped, {checks} checks;",
            self.done()
        )?;
        let errors = Error::ALL.iter().map(|error| (error, self.outcomes.get(*error as usize)));
        errors
            .filter_map(|(error, count)| Some((error, *count.filter(|count| **count > 0)?)))
            .try_for_each(|(error, count)| write!(f, " {error:?} {count}"))
    }
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing was found.
    Passed(Tally),
    /// Something was.
    Failed {
        /// What was done until then.
        tally: Tally,
        /// What was expected and what was seen, and of which worker.
        words: Words,
    },
    /// What the run needs could not be made.
    Unready(Error),
}
