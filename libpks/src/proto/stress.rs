//! What `stress` does: a run of random steps, each checked against the reference model.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::{Error, Name};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The domain that runs the steps.
pub const SERVER: &str = "stress";
/// Room for the words of a failure.
pub type Words = heapless::String<900>;
/// Room for the kinds of steps.
pub type Kinds = heapless::Vec<(Name, u32), 24>;

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Stress;

impl Protocol for Stress {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Run steps. The same request does the same steps, unless the interleaving decides which of two errors comes.
    Run(Session),
}

/// A run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// What the steps are drawn from.
    pub seed: u64,
    /// How many.
    pub steps: u32,
    /// Domains besides the one that runs the steps.
    pub workers: u8,
    /// Hardware keys that the steps may use besides those of the workers, if there are so many; the others are set
    /// aside. So what runs out does not hang on who else is there.
    pub keys: u8,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, workers, keys } = self;
        write!(f, "seed={seed:#x} steps={steps} workers={workers} keys={keys}")
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Steps.
    pub steps: u32,
    /// Comparisons.
    pub checks: u64,
    /// Accesses that had to fault and did.
    pub faults: u32,
    /// Steps that had to be refused and were.
    pub refused: u32,
    /// Regions that were closed because no key was free.
    pub closed: u32,
    /// Rounds of the threads that run all along.
    pub spins: u64,
    /// How many of each kind.
    pub kinds: Kinds,
}

impl Tally {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.steps = self.steps.saturating_add(other.steps);
        self.checks = self.checks.saturating_add(other.checks);
        self.faults = self.faults.saturating_add(other.faults);
        self.refused = self.refused.saturating_add(other.refused);
        self.closed = self.closed.saturating_add(other.closed);
        self.spins = self.spins.saturating_add(other.spins);
        for (kind, count) in &other.kinds {
            self.count(kind, *count);
        }
    }

    /// Counts steps of a kind.
    pub fn count(&mut self, kind: &str, more: u32) {
        if let Some((_, count)) = self.kinds.iter_mut().find(|(known, _)| known == kind) {
            *count = count.saturating_add(more);
        } else {
            // There are fewer kinds than room.
            let _ = self.kinds.push((crate::abi::name(kind), more));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, checks, faults, refused, closed, spins, .. } = self;
        write!(
            f,
            "{steps} steps, {checks} checks, {faults} faults, {refused} refused, {closed} closed, {spins} spins;"
        )?;
        self.kinds.iter().try_for_each(|(kind, count)| write!(f, " {kind} {count}"))
    }
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Everything came as it had to.
    Passed(Tally),
    /// Something did not.
    Failed {
        /// What was done until then.
        tally: Tally,
        /// The number of the step, from 1; 0 before the first.
        step: u32,
        /// The step, what was expected, and what was seen.
        words: Words,
    },
    /// What the run needs could not be made.
    Unready(Error),
}
