//! The protocol of `pks_test`: lists scenarios and runs them.
//!
//! A scenario is judged twice: by `pks_test` with its checks, and by the caller with [`Outcome::judged`], which does
//! not take a pass with too few checks. A crash ends the test domain, so there the caller alone judges, by
//! [`Armed::verdict`]. A client that uses `run` has all of that done.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::{Error, Name, name};
use core::fmt::{self, Write};
use serde::{Deserialize, Serialize};

#[cfg(all(feature = "rt", target_os = "none"))]
pub mod checks;
#[cfg(all(feature = "rt", target_os = "none"))]
mod client;
#[cfg(all(feature = "rt", target_os = "none"))]
pub use client::{ACCEPTED_WITHIN, RunError, run};
pub(super) mod table;
pub use table::{SCENARIOS, find};
mod crash;
pub use crash::{Armed, CRASHES, Crash, Culprit, crash};

/// What was seen, in words; cut at its end if it is too long.
pub type Seen = heapless::String<400>;

/// The domain that runs the scenarios.
pub const SERVER: &str = "pks_test";

/// A scenario as both sides know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Where the expectation comes from.
    pub source: &'static str,
    /// A pass with fewer checks than this is no pass.
    pub least_checks: u32,
}

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct PksTest;

impl Protocol for PksTest {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which scenarios there are, from this position on.
    List {
        /// Position of the first that is wanted.
        from: u32,
    },
    /// Run a scenario. One of [`CRASHES`] is armed by the first of two requests in a row and done by the second; any
    /// other request of the same client between them disarms it.
    Run {
        /// Its name.
        name: Name,
    },
    /// The outcome of the last scenario that this client ran.
    Last,
}

/// One line of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// What it shows.
    pub about: heapless::String<128>,
    /// Where the expectation comes from.
    pub source: heapless::String<96>,
    /// A pass with fewer checks than this is no pass.
    pub least_checks: u32,
}

/// A part of a listing: as many lines as fit into one reply of every protocol that carries them.
pub type Page = heapless::Vec<Listed, 8>;

/// The part of a list that begins at a position; empty past its end.
#[must_use]
pub fn page(scenarios: &[Scenario], from: u32) -> Page {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let rest = scenarios.get(from..).unwrap_or_default().iter();
    let lines = rest.map(|scenario| Listed {
        name: name(scenario.name),
        about: cut(format_args!("{}", scenario.about)),
        source: cut(format_args!("{}", scenario.source)),
        least_checks: scenario.least_checks,
    });
    lines.take(Page::new().capacity()).collect()
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// A part of the list; ask again from its end until it is empty.
    Listing(Page),
    /// The scenario has run.
    Done(Outcome),
    /// The crash is armed; the next request for it is carried out.
    Armed(Armed),
    /// It was not run.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No scenario has that name.
    #[error("no such scenario")]
    UnknownScenario,
    /// Another scenario is running.
    #[error("another scenario is running")]
    Busy,
    /// This client has not run a scenario yet.
    #[error("no scenario was run yet")]
    NothingRun,
    /// More clients than the server keeps apart.
    #[error("too many clients")]
    TooManyClients,
    /// What the crash needs could not be made.
    #[error("cannot prepare the crash: {0}")]
    CannotArm(Error),
}

/// How a scenario ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// Every check held.
    Pass,
    /// A check did not hold, or too few were made.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        })
    }
}

/// How a scenario ended and what was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// How many checks were made.
    pub checks: u32,
    /// What was seen: of a failure the first check that did not hold.
    pub seen: Seen,
}

impl Outcome {
    /// An outcome, its text cut to what fits.
    #[must_use]
    pub fn new(verdict: Verdict, checks: u32, seen: fmt::Arguments<'_>) -> Self {
        Self { verdict, checks, seen: cut(seen) }
    }

    /// The outcome as a caller should take it: a pass of a scenario that this side does not know, or with fewer
    /// checks than it must make, is a failure.
    #[must_use]
    pub fn judged(self, name: &str) -> Self {
        let Some(scenario) = find(name).or_else(|| super::ipc_test::find(name)) else {
            return Self::new(
                Verdict::Fail,
                self.checks,
                format_args!("{name} is no scenario; {}", self.seen),
            );
        };
        match self.verdict {
            Verdict::Pass if self.checks < scenario.least_checks => {
                let least = scenario.least_checks;
                Self::new(
                    Verdict::Fail,
                    self.checks,
                    format_args!("only {} of at least {least} checks; {}", self.checks, self.seen),
                )
            }
            _ => self,
        }
    }
}

/// Text cut to what fits.
fn cut<const N: usize>(text: fmt::Arguments<'_>) -> heapless::String<N> {
    struct Cut<const N: usize>(heapless::String<N>);
    impl<const N: usize> Write for Cut<N> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.chars().try_for_each(|c| self.0.push(c)).map_err(|_| fmt::Error)
        }
    }
    let mut seen = Cut(heapless::String::new());
    // The only error is that the text is full.
    let _ = seen.write_fmt(text);
    seen.0
}

#[cfg(test)]
mod tests;
