//! CPU time: how much of it a domain may use at its priority, and what becomes of it beyond.
//!
//! | type | what it is |
//! |---|---|
//! | [`Budget`] | so much time in each period |
//! | [`Share`] | what a budget is of a CPU: the shares of all domains together never exceed one CPU |
//! | [`Account`] | what a domain has left of its budget, and what it has used |
//! | [`CallTime`] | what a call has used beyond the budget of who pays for it |
//! | [`Standing`] | what follows: at its priority, or in the background |
//!
//! The kernel measures and keeps the books with these types; docs/cpu-time.md has the rules and why they are so.
#![forbid(unsafe_code)]

mod account;
mod call;

pub use account::{Account, Turn};
pub use call::CallTime;

use serde::{Deserialize, Serialize};

/// The shortest budget, in nanoseconds: shorter ones would cost more interrupts than they are worth.
const LEAST_NS: u64 = 1_000_000;
/// The shortest and the longest period, in nanoseconds.
const LEAST_PERIOD_NS: u64 = 10_000_000;
const LONGEST_PERIOD_NS: u64 = 60_000_000_000;

/// Nanoseconds of CPU time in each period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Budget {
    ns: u64,
    every_ns: u64,
}

/// Why two numbers are no budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BudgetError {
    /// The period is too short or too long.
    #[error("a period is 10 ms to 60 s long")]
    Period,
    /// The time is too short, or longer than the period.
    #[error("a budget is at least 1 ms, and no more than its period")]
    Time,
}

impl Budget {
    /// What a server gets whose manifest says nothing: enough to answer at once now and then. There is room for 95 of
    /// these, more than the servers of any manifest.
    pub const DEFAULT: Self = Self { ns: 10_000_000, every_ns: 1_000_000_000 };

    /// `ns` nanoseconds in every `every_ns`.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub const fn new(ns: u64, every_ns: u64) -> Result<Self, BudgetError> {
        if every_ns < LEAST_PERIOD_NS || every_ns > LONGEST_PERIOD_NS {
            return Err(BudgetError::Period);
        }
        if ns < LEAST_NS || ns > every_ns {
            return Err(BudgetError::Time);
        }
        Ok(Self { ns, every_ns })
    }

    /// The time, in nanoseconds.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.ns
    }

    /// The period, in nanoseconds.
    #[must_use]
    pub const fn every_ns(self) -> u64 {
        self.every_ns
    }

    /// What it is of a CPU, rounded up.
    #[must_use]
    pub const fn share(self) -> Share {
        // At most 10^6, for the time is no longer than the period.
        Share((self.ns * Share::PARTS as u64).div_ceil(self.every_ns) as u32)
    }
}

impl TryFrom<(u64, u64)> for Budget {
    type Error = BudgetError;

    fn try_from((ns, every_ns): (u64, u64)) -> Result<Self, BudgetError> {
        Self::new(ns, every_ns)
    }
}

impl From<Budget> for (u64, u64) {
    fn from(budget: Budget) -> Self {
        (budget.ns, budget.every_ns)
    }
}

/// The longest time that can be measured at once. A domain cannot keep the kernel out for so long, so more than that is a
/// machine that stood still, for which nobody is to pay.
const LONGEST_NS: u64 = 2_000_000_000;

/// What somebody is charged who ran between two readings of the clock.
#[must_use]
pub const fn elapsed_ns(from: u64, to: u64) -> u64 {
    let ns = to.saturating_sub(from);
    if ns < LONGEST_NS { ns } else { LONGEST_NS }
}

/// A part of the time of one CPU, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(u32);

impl Share {
    const PARTS: u32 = 1_000_000;
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// What all budgets together may promise. The rest is for the background, which so never stands still, not even
    /// where every thread that has a budget is bound to the same CPU.
    pub const TOTAL: Self = Self(950_000);

    /// Both together, `None` beyond [`Share::TOTAL`].
    #[must_use]
    pub const fn plus(self, other: Self) -> Option<Self> {
        let sum = self.0 + other.0;
        if sum <= Self::TOTAL.0 { Some(Self(sum)) } else { None }
    }

    /// What is left of it without the other, `None` if that is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(left) => Some(Self(left)),
            None => None,
        }
    }
}

impl core::fmt::Display for Share {
    /// In hundredths, rounded up: `95 %`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} %", self.0.div_ceil(Self::PARTS / 100))
    }
}

/// How long a call may go on beyond the budget of who pays for it, in nanoseconds of CPU time, where the server's
/// manifest does not say.
pub const OVERRUN_DEFAULT_NS: u64 = 5_000_000_000;
/// The shortest and the longest that a server may ask for.
pub const OVERRUN_LEAST_NS: u64 = 1_000_000;
/// See [`OVERRUN_LEAST_NS`].
pub const OVERRUN_LONGEST_NS: u64 = 600_000_000_000;

/// How a thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// At its priority.
    AtPriority,
    /// Below every priority, in turns with whoever else is there.
    InBackground,
}

/// CPU time that a domain has used: that of its threads, wherever they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CpuTime {
    /// All of it, in nanoseconds.
    pub used_ns: u64,
    /// What of that was used in the background, which no budget pays for.
    pub background_ns: u64,
    /// What may still be used at priority before the budget is renewed, in nanoseconds.
    pub left_ns: u64,
    /// How often the budget was used up.
    pub depletions: u64,
    /// How often a budget that was used up was there again.
    pub renewals: u64,
}
