//! Drives the fuzzer in the guest: sessions of random calls, one seed after the other.

use std::time::{Duration, Instant};

use libpks::proto::fuzzer::{Reply as Fuzzed, Session, Tally};
use libpks::proto::testlink::{Reply, Request};

use crate::failure::Failure;
use crate::plan::Running;
use crate::stress::SEED;

/// The manifest of the system with the fuzzer.
pub const MANIFEST: &str = "boot/fuzz.toml";
/// Calls of a session. Short, so that what failed is done again soon.
pub const CALLS: u32 = 5000;
/// What a session may take, the guest being one of many on a slow host.
const SESSION: Duration = Duration::from_secs(180);

/// Runs sessions with `seed` and those after it for `time`, and until there were so many calls; `note` hears of each.
///
/// # Errors
/// [`Failure::Wrong`] at the first that fails, with the line that does it again; as [`crate::link::Link::ask`].
pub fn sessions(
    running: &mut Running,
    seed: u64,
    calls: u64,
    time: Duration,
    mut note_fn: impl FnMut(&Session, &Tally),
) -> Result<Tally, Failure> {
    let begun = Instant::now();
    let mut all = Tally::default();
    let mut next = seed;
    while all.calls < calls || begun.elapsed() < time {
        let session = Session { seed: next, calls: CALLS };
        all.add(&one(running, &session)?);
        note_fn(&session, &all);
        next = next.wrapping_add(1);
    }
    Ok(all)
}

/// Runs a session.
///
/// # Errors
/// As [`sessions`].
pub fn one(running: &mut Running, session: &Session) -> Result<Tally, Failure> {
    let again = format!("{session}; again: {SEED}={:#x} ./just test fuzz_", session.seed);
    match running.link.ask(&Request::Fuzz(*session), SESSION) {
        Ok(Reply::Fuzzed(Fuzzed::Passed(tally))) if tally.calls >= u64::from(session.calls) => Ok(tally),
        Ok(Reply::Fuzzed(Fuzzed::Failed { tally, words })) => {
            Err(Failure::Wrong(format!("{again}\n{words}\nuntil then: {tally}")))
        }
        Ok(other) => Err(Failure::Wrong(format!("{again}\n{other:?}"))),
        Err(failure) => Err(failure.again_by(&again)),
    }
}
