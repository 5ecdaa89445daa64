//! The protocol of `pks_test`: lists scenarios and runs them.
//!
//! A scenario is judged twice: by `pks_test` with its checks, and by the caller with [`Outcome::judged`], which does
//! not take a pass with too few checks. The crash ends the test domain, so there the caller alone judges, by
//! [`Armed::verdict`]. A client that uses `run` has all of that done.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::fault::{FaultAccess, FaultKind, FaultReport};
use crate::abi::{Error, Name};
use core::fmt::{self, Write};
use serde::{Deserialize, Serialize};

#[cfg(all(feature = "rt", target_os = "none"))]
pub mod checks;
#[cfg(all(feature = "rt", target_os = "none"))]
mod client;
#[cfg(all(feature = "rt", target_os = "none"))]
pub use client::{ACCEPTED_WITHIN, RunError, run};

/// What was seen, in words; cut at its end if it is too long.
pub type Seen = heapless::String<400>;

/// The domain that runs the scenarios.
pub const SERVER: &str = "pks_test";
/// The scenario that ends [`SERVER`]; it must be asked for twice in a row.
pub const CRASH: &str = "S9_crash";

/// A scenario as both sides know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Whether it needs protection keys; without them it reports [`Verdict::Skip`].
    pub needs_keys: bool,
    /// A pass with fewer checks than this is no pass.
    pub least_checks: u32,
}

macro_rules! scenarios {
    ($($name:literal, $needs_keys:literal, $least:literal, $about:literal;)+) => {
        /// All scenarios, in the order in which they are run.
        pub const SCENARIOS: &[Scenario] =
            &[$(Scenario { name: $name, about: $about, needs_keys: $needs_keys, least_checks: $least }),+];
    };
}

scenarios! {
    "S1_defaults", true, 6, "every CPU has CR4.PKS and the default word, read by a thread that runs there";
    "S2_single", true, 14, "one key: no access, read-write and read-only, each read and written by a thread";
    "S3_all_keys", true, 100, "every key to be had, all others closed, then open; and the kernel's own key";
    "S4_context_switch", true, 40, "two threads on one CPU keep their own rights through proven switches";
    "S5_exception", true, 16, "a fault's handler has its own rights; the thread gets back what was recorded";
    "S6_abandon", true, 24, "rights given to all threads: none faults, armed before or after, asleep or not";
    "S7_update", true, 6, "rights recorded for a faulted thread hold from then on, for that thread alone";
    "S8_global", true, 12, "rights of all threads change under a thread that is running on another CPU";
    "S9_crash", true, 5, "an unhandled fault ends the test domain alone (ask twice in a row)";
    "S10_harness", false, 16, "the test server refuses what it must: unknown names, two runs at once, stale arming";
    "K1_no_access_write", true, 4, "AD with CR0.WP set: a write faults, and is done once the key is open";
    "K2_no_access_write_wp_off", true, 3, "AD with CR0.WP clear: a write faults";
    "K3_read_only_write", true, 3, "WD with CR0.WP set: a write faults";
    "K4_read_only_write_wp_off", true, 3, "WD with CR0.WP clear: a write is done";
    "K5_user_page_write_wp_off", true, 4, "WD with CR0.WP clear: a write to a user page is done";
    "K6_user_page_write", true, 4, "WD with CR0.WP set: a write to a user page is done";
    "K7_no_access_read", true, 6, "AD: a read of a user page is done, a read of a supervisor page faults";
    "P5_error_codes", true, 6, "error codes 0x21 and 0x23 and the exact address, at both ends of a page";
    "P9_nested", true, 5, "a trap inside a trap and an NMI each have the kernel's word, before and after";
    "P17_reserved_bits", true, 4, "a word with a bit above 31 is refused by the CPU, one without is taken";
    "P18_rekey", true, 6, "a page with another key obeys the new key on every CPU";
    "P20_exhaustion", true, 4, "more keys than there are: a typed error, and all come back";
    "M1_fresh_memory", false, 24, "memory that somebody else has used comes back as zeros";
    "P19_audit", false, 2, "every mapping has the key and the permissions that the rules say";
}

/// The scenario with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
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
    /// Run a scenario. [`CRASH`] is armed by the first of two requests in a row and done by the second; any other
    /// request of the same client between them disarms it.
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
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// A part of the list; ask again from its end until it is empty.
    Listing(heapless::Vec<Listed, 16>),
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
    /// This machine cannot run it.
    Skip,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
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
    /// What was seen: of a failure the first check that did not hold, of a skip the reason.
    pub seen: Seen,
}

impl Outcome {
    /// An outcome, its text cut to what fits.
    #[must_use]
    pub fn new(verdict: Verdict, checks: u32, seen: fmt::Arguments<'_>) -> Self {
        Self { verdict, checks, seen: cut(seen) }
    }

    /// The outcome as a caller should take it: a pass of a scenario that this side does not know, or with fewer
    /// checks than it must make, is a failure; so is a skip of a scenario that needs nothing of the machine.
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
            Verdict::Skip if !scenario.needs_keys => {
                Self::new(Verdict::Fail, self.checks, format_args!("skipped without need: {}", self.seen))
            }
            _ => self,
        }
    }
}

/// What the armed crash will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Armed {
    /// The address to which it will write.
    pub address: u64,
    /// The hardware key of the page there.
    pub key: u8,
}

impl Armed {
    /// The verdict on the crash, from outside of the domain that it ends: what the second request gave, the newest
    /// fault report, and whether the server answered again afterwards.
    #[must_use]
    pub fn verdict(
        &self,
        call: Result<&Reply, Error>,
        report: Option<&FaultReport>,
        answers_again: bool,
    ) -> Outcome {
        let fail = |checks, seen: fmt::Arguments<'_>| Outcome::new(Verdict::Fail, checks, seen);
        match call {
            Err(Error::PeerDiedMidCall) => {}
            Err(error) => {
                return fail(0, format_args!("the call should say that the peer died, not: {error}"));
            }
            Ok(reply) => return fail(0, format_args!("the server survived: {reply:?}")),
        }
        let Some(report) = report else { return fail(1, format_args!("there is no fault report")) };
        let (address, key) = (self.address, self.key);
        if report.domain_name != SERVER || report.kind != FaultKind::ProtectionKey {
            return fail(1, format_args!("the report blames {} for {:?}", report.domain_name, report.kind));
        }
        if report.access != FaultAccess::Write || report.address != address {
            let (seen, access) = (report.address, report.access);
            return fail(2, format_args!("{access:?} at {seen:#x} instead of a write at {address:#x}"));
        }
        if report.key != Some(key) {
            return fail(3, format_args!("the report has key {:?}, the page had {key}", report.key));
        }
        if !answers_again {
            return fail(4, format_args!("{SERVER} did not answer again"));
        }
        Outcome::new(
            Verdict::Pass,
            5,
            format_args!("{SERVER} ended by its write at {address:#x} under key {key}, and answers again"),
        )
    }
}

/// Text cut to what fits.
fn cut(text: fmt::Arguments<'_>) -> Seen {
    struct Cut(Seen);
    impl Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.chars().try_for_each(|c| self.0.push(c)).map_err(|_| fmt::Error)
        }
    }
    let mut seen = Cut(Seen::new());
    // The only error is that the text is full.
    let _ = seen.write_fmt(text);
    seen.0
}

#[cfg(test)]
mod tests;
