//! Scenarios that end the test domain, and how they are judged from outside.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Outcome, Reply, SERVER, Verdict};
use crate::abi::Error;
use crate::abi::fault::{FaultAccess, FaultKind, FaultReport};
use crate::pkey::{Access, Pkey, Pkrs, Rights};

/// Who makes the access that ends the domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Culprit {
    /// The thread that serves the request.
    Activation,
    /// A thread of the domain that nobody waits for a fault of.
    Thread,
}

/// A scenario that ends [`SERVER`]; it must be asked for twice in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// Its name.
    pub scenario: &'static str,
    /// What is open of the page.
    pub rights: Rights,
    /// What is done there.
    pub access: Access,
    /// By whom.
    pub by: Culprit,
}

/// All of them.
pub const CRASHES: [Crash; 2] = [
    Crash { scenario: "S9_crash", rights: Rights::NoAccess, access: Access::Write, by: Culprit::Activation },
    Crash { scenario: "P12_strict", rights: Rights::ReadOnly, access: Access::Write, by: Culprit::Thread },
];

/// The crash that is this scenario.
#[must_use]
pub fn crash(scenario: &str) -> Option<&'static Crash> {
    CRASHES.iter().find(|crash| crash.scenario == scenario)
}

/// What the armed crash will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Armed {
    /// The address that it will access.
    pub address: u64,
    /// The hardware key of the page there.
    pub key: u8,
    /// What the thread will have open of it.
    pub rights: Rights,
    /// What it will do there.
    pub access: Access,
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
        let access = match self.access {
            Access::Read => FaultAccess::Read,
            Access::Write => FaultAccess::Write,
        };
        if report.access != access || report.address != address {
            let (seen, came) = (report.address, report.access);
            return fail(2, format_args!("{came:?} at {seen:#x} instead of {access:?} at {address:#x}"));
        }
        if report.key != Some(key) {
            return fail(3, format_args!("the report has key {:?}, the page had {key}", report.key));
        }
        let rights = |word| Pkey::new(key).map(|key| Pkrs::from_raw(word).rights(key));
        let seen = (rights(report.pkrs), rights(report.pkrs_live));
        if seen != (Some(self.rights), Some(self.rights)) {
            return fail(4, format_args!("the thread had {seen:?} instead of {}", self.rights));
        }
        if !answers_again {
            return fail(5, format_args!("{SERVER} did not answer again"));
        }
        Outcome::new(
            Verdict::Pass,
            6,
            format_args!(
                "{SERVER} ended by its {} at {address:#x} under key {key}, and answers again",
                self.access
            ),
        )
    }
}
