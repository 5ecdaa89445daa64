//! Every way in which a test of the running system can fail.

use std::time::Duration;

use libpks::proto::testlink::{Closing, Problem};

/// Why a test failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Something did not come in time. The guest is given up.
    #[error("TIMEOUT: {what} did not come within {} s", limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// The guest went away in the middle.
    #[error("the guest went away: {0}")]
    Lost(String),
    /// The guest could not be started at all.
    #[error("cannot boot: {0}")]
    NotBooted(String),
    /// The guest said or did something wrong.
    #[error("{0}")]
    Wrong(String),
    /// The guest's test link could not do what it was asked.
    #[error("the test link says: {0}")]
    Refused(Problem),
    /// The boot ended without the guest's closing record, so nothing that it said counts.
    #[error("no closing record: {0}")]
    NoClosing(String),
    /// The guest's closing record does not agree with what the harness saw.
    #[error("the guest closed with {guest:?}, the harness counted {harness:?}")]
    Miscounted {
        /// What the guest counted.
        guest: Closing,
        /// What the harness counted.
        harness: Closing,
    },
    /// QEMU ended in another way than it must.
    #[error("QEMU ended with {got}, expected {expected}")]
    WrongEnd {
        /// How it ended.
        got: String,
        /// How it should have.
        expected: String,
    },
    /// The guest was lost so often that this test did not get its turn.
    #[error("not run: the guest was lost {0} times before")]
    NotRun(usize),
}

impl Failure {
    /// Whether the guest cannot be asked anything more.
    #[must_use]
    pub fn loses_guest(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Lost(_) | Self::NotBooted(_))
    }

    /// The same of a request, with what does it again.
    #[must_use]
    pub fn again_by(self, again: &str) -> Self {
        match self {
            Self::Refused(problem) => Self::Wrong(format!("{again}\n{problem}")),
            Self::TimedOut { what, limit } => Self::TimedOut { what: format!("{again}: {what}"), limit },
            Self::Lost(how) => Self::Lost(format!("{again}: {how}")),
            other => other,
        }
    }
}

/// A check of the harness: `Ok` if it holds.
///
/// # Errors
/// [`Failure::Wrong`] with the text if it does not.
pub fn check(holds: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Wrong(text())) }
}
