//! The protocol of `adversary`, which commits one crime on request so that it can be seen what stops it; the table of
//! crimes; and the judge, who has them committed and looks from outside at what came of them.
//!
//! | file | what it holds |
//! |---|---|
//! | `crime` | what a row of the table says |
//! | `table` | the rows, a file for each sort of crime |
//! | `elsewhere` | attacks that other tests make, and what is not stopped |
//! | `judge` | carries one crime out, as a client of the adversary |
#![forbid(unsafe_code)]

mod crime;
pub mod elsewhere;
#[cfg(all(feature = "rt", target_os = "none"))]
pub mod judge;
mod table;

pub use crime::{Aim, Attacker, Crime, Sentence, Vector};
pub use table::{CRIMES, SORTS, Sort, find};

use super::Protocol;
use crate::abi::fault::{FaultKind, FaultReport};
use crate::abi::inspect::DomainInfo;
use crate::abi::{Error, Name};
use crate::retry::Repetition;
use serde::{Deserialize, Serialize};

/// The domain that commits crimes.
pub const SERVER: &str = "adversary";

/// What forged lines of the log hold, so that they are found.
pub const FORGED: &str = "f0rged";

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Adversary;

impl Protocol for Adversary {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;

    fn repetition(request: &Request) -> Repetition {
        match request {
            Request::Commit { .. } => Repetition::Harmful,
            // Dying once more is no worse.
            Request::Die(_) | Request::DieAt { .. } | Request::Nothing => Repetition::Harmless,
        }
    }
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Commit a crime.
    Commit {
        /// Its name.
        name: Name,
        /// What to aim at, for crimes that aim at something. Crimes on a region come with its capability.
        target: u64,
        /// The address of a word of the client's own. A crime that may have lifted the wall reads it, to see.
        witness: u64,
    },
    /// Die, so that it can be seen what a restart leaves behind. There is no reply.
    Die(Death),
    /// Panic if it was started again just so often, else as [`Request::Nothing`].
    DieAt {
        /// How often.
        restarts: u32,
    },
    /// Say whether it is there. Gives [`Reply::Refused`] with [`Error::WouldBlock`], as there is nothing to do.
    Nothing,
}

/// How a server dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Death {
    /// It panics.
    Panic,
    /// It reads where nothing is.
    Fault,
    /// It writes to memory whose key is closed to it.
    Key,
    /// It recurses without end.
    StackOverflow,
    /// It allocates until its quota is used up, and panics for want of memory.
    Quota,
    /// It makes threads that sleep, wait, join and spin, and regions, endpoints, notifications and capabilities by the
    /// dozen, and panics.
    Hoard,
    /// It spins in the call for ever: whoever supervises it has to stop it.
    Spin,
}

impl Death {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Panic, Self::Fault, Self::Key, Self::StackOverflow, Self::Quota, Self::Hoard, Self::Spin];
}

/// What the adversary answers, if it lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The kernel refused.
    Refused(Error),
    /// It was done, and the adversary has nothing of it.
    Succeeded,
    /// The adversary has got what it must not: a value, a right, a flag.
    Gained(u64),
    /// No crime has that name.
    UnknownCrime,
}

/// What came of a crime, as seen from outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Consequence {
    /// The adversary's domain was ended; the report.
    Ended(FaultReport),
    /// It was ended by another fault than the one that the crime must lead to: somewhere else.
    EndedElsewhere(FaultReport),
    /// The domain was ended, but there is no report that blames it.
    EndedUnreported,
    /// The kernel refused, and the domain lives.
    Refused(Error),
    /// It was carried out.
    Succeeded,
    /// The adversary has got what it must not.
    Gained(u64),
    /// Somebody else is not as before.
    Harmed(Name),
    /// The report of its end tells of memory that is not its own.
    Leaked,
    /// The kernel's log holds what looks like another's line, or control characters.
    Forged,
}

impl Crime {
    /// Whether that is what must come of it. `running`: the domains that ran before; what belongs to one in another view
    /// is walled off by the view, where in the same view a key does it.
    #[must_use]
    pub fn is_punished_by(&self, consequence: &Consequence, running: &[DomainInfo]) -> bool {
        match (self.sentence, consequence) {
            (Sentence::Ends(kind) | Sentence::EndsThere(kind), Consequence::Ended(report)) => {
                let walled_off = matches!(kind, FaultKind::ProtectionKey | FaultKind::Protection);
                let same = report.kind == kind
                    || (walled_off
                        && report.kind == FaultKind::OtherView
                        && is_in_other_view(report, running));
                report.domain_name == SERVER && same
            }
            (Sentence::EndsSomehow | Sentence::Contained, Consequence::Ended(report)) => {
                report.domain_name == SERVER
            }
            (Sentence::Refused(expected), Consequence::Refused(error)) => expected == *error,
            (Sentence::Harmless | Sentence::Contained, Consequence::Succeeded)
            | (Sentence::Contained, Consequence::Refused(_)) => true,
            _ => false,
        }
    }
}

/// Whether what it touched belongs to a domain that is not in its view.
fn is_in_other_view(report: &FaultReport, running: &[DomainInfo]) -> bool {
    let view_of = |name: &Name| running.iter().find(|it| it.name == *name).map(|it| it.view);
    let (own, owner) = (view_of(&report.domain_name), report.owner.as_ref().and_then(view_of));
    own.is_some() && owner.is_some() && own != owner
}
