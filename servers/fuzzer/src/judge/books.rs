//! What the kernel tells of itself, before and after.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::inspect::{DomainInfo, DomainState};
use libpks::abi::{Error, Name};
use libpks::proto::fuzzer::SERVER;
use libpks::rt::{Inspect, Instant, time};

use super::{Run, wrong};

/// How long it may take until what a worker left is gone: a call of its own may still be served somewhere.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);
/// Frames by which a whole run may differ: tables of the kernel grow to the most that they ever held.
const SLACK: u64 = 64;
/// Workers after which frames are looked at, and with how many of them.
const WARM: usize = 16;

/// What must not change of a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Domain {
    id: u32,
    name: Name,
    state: DomainState,
    key: Option<u8>,
    quota_bytes: u64,
    used_bytes: u64,
    threads: u32,
    capabilities: u32,
}

/// Counts that must be the same when a worker is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Books {
    keys_free: u8,
    threads: u64,
    domains: Vec<Domain>,
}

impl Books {
    /// As they are.
    pub(crate) fn read(inspect: Inspect) -> Result<Self, Error> {
        let mut domains = Vec::new();
        for info in inspect.domains() {
            let DomainInfo { id, name, state, key, quota_bytes, used_bytes, threads, capabilities, .. } =
                info?;
            // The judge's own heap grows with its notes.
            let used_bytes = if name == SERVER { 0 } else { used_bytes };
            domains.push(Domain { id, name, state, key, quota_bytes, used_bytes, threads, capabilities });
        }
        let mut threads = 0;
        for thread in inspect.threads() {
            thread?;
            threads += 1;
        }
        Ok(Self { keys_free: inspect.system()?.keys_free, threads, domains })
    }

    /// Whether they are the same as before, or become so. Gives the number of comparisons.
    pub(crate) fn compare(&self, inspect: Inspect) -> Run<u64> {
        let until = Instant::after(PATIENCE);
        loop {
            let now = Self::read(inspect).map_err(|error| alloc::format!("no books: {error}"))?;
            if now == *self {
                return Ok(2 + 8 * self.domains.len() as u64);
            }
            if Instant::now() > until {
                return self.differ(&now);
            }
            let _ = time::sleep(LOOK);
        }
    }

    fn differ(&self, now: &Self) -> Run<u64> {
        let lost = self.domains.iter().find(|domain| !now.domains.contains(domain));
        let new = now.domains.iter().find(|domain| !self.domains.contains(domain));
        wrong(format_args!(
            "keys {} then {}, threads {} then {}, {lost:?} then {new:?}",
            self.keys_free, now.keys_free, self.threads, now.threads
        ))
    }
}

/// Free frames after each worker.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u64>);

impl Frames {
    /// Notes how many are free.
    pub(crate) fn note(&mut self, inspect: Inspect) -> Run {
        let system = inspect.system().map_err(|error| alloc::format!("no books: {error}"))?;
        self.0.push(system.frames_free);
        Ok(())
    }

    /// Whether they dwindle. Tables of the kernel grow to the most that they ever held, and keep that; a leak goes on.
    pub(crate) fn judge(&self) -> Run {
        let Some((first, rest)) = self.0.split_at_checked(WARM) else { return Ok(()) };
        let (Some(before), Some(after)) = (first.iter().min(), rest.iter().rev().take(WARM).max()) else {
            return Ok(());
        };
        if after.saturating_add(SLACK) < *before {
            return wrong(format_args!("{before} frames were free, {after} are; {:?}", self.0));
        }
        Ok(())
    }
}
