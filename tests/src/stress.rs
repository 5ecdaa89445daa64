//! Drives the stress server: sessions of random steps, one seed after the other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libpks::abi::name;
use libpks::proto::stress::{self, Session, Tally};
use libpks::proto::testlink::{Action, Problem, Reply, Request};

use crate::failure::Failure;
use crate::plan::Running;

/// The environment variable that gives the first seed.
pub const SEED: &str = "PORTCULLIS_SEED";
/// Steps of a session. Short, so that what failed is done again soon.
pub const STEPS: u32 = 250;
/// What a session may take, the guest being one of many on a slow host.
const SESSION: Duration = Duration::from_secs(180);
/// What stopping a server may take.
const STOP: Duration = Duration::from_secs(30);
/// Keys besides those of the workers. So many are left with three workers once [`OTHERS`] have ended.
const MOST_KEYS: u8 = 4;
/// Servers that the run can do without; each has a key.
const OTHERS: [&str; 3] = ["ipc_test", "adversary", "pks_test"];

/// The seed that the environment gives, as it is or in hexadecimal, if it gives one.
///
/// # Errors
/// [`Failure::Wrong`] for a seed that is no number.
pub fn seed_asked_for() -> Result<Option<u64>, Failure> {
    std::env::var(SEED).ok().filter(|text| !text.is_empty()).map(|text| parse_seed(&text)).transpose()
}

/// A seed that nobody has had.
#[must_use]
pub fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The lower half differs from one call to the next.
    (since.as_nanos() as u64) << 16 >> 16
}

/// The seed that the environment gives, else a fresh one.
///
/// # Errors
/// As [`seed_asked_for`].
pub fn first_seed() -> Result<u64, Failure> {
    Ok(seed_asked_for()?.unwrap_or_else(fresh_seed))
}

/// A seed in words.
///
/// # Errors
/// [`Failure::Wrong`].
pub fn parse_seed(text: &str) -> Result<u64, Failure> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|error| Failure::Wrong(format!("{text:?} is no seed: {error}")))
}

/// Stops servers that have keys, so that every session has as many as its seed says.
///
/// # Errors
/// As [`crate::link::Link::ask`].
pub fn free_keys(running: &mut Running) -> Result<(), Failure> {
    for server in OTHERS {
        match running.link.ask(&Request::Server { name: name(server), action: Action::Stop }, STOP) {
            // It had ended before.
            Ok(_) | Err(Failure::Refused(Problem::Refused)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// The session with a seed: how many domains and keys there are follows from it.
#[must_use]
pub fn session(seed: u64) -> Session {
    let (workers, keys) = (1 + (seed % 3) as u8, (seed / 3 % u64::from(MOST_KEYS + 1)) as u8);
    Session { seed, steps: STEPS, workers, keys }
}

/// Runs sessions with `seed` and those after it for `time`, one at least; `note` hears of each.
///
/// # Errors
/// [`Failure::Wrong`] at the first that fails, with the line that does it again; as [`crate::link::Link::ask`].
pub fn sessions(
    running: &mut Running,
    seed: u64,
    time: Duration,
    mut note_fn: impl FnMut(&Session, &Tally),
) -> Result<Tally, Failure> {
    let begun = Instant::now();
    let mut all = Tally::default();
    let mut next = seed;
    while all.steps == 0 || begun.elapsed() < time {
        let session = session(next);
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
    let again = format!("{session}; again: {SEED}={:#x} ./just test stress", session.seed);
    let asked = running.link.ask(&Request::Stress(*session), SESSION);
    match asked {
        Ok(Reply::Stressed(stress::Reply::Passed(tally))) if tally.steps == session.steps => Ok(tally),
        Ok(Reply::Stressed(stress::Reply::Failed { tally, step, words })) => {
            Err(Failure::Wrong(format!("{again}\nstep {step}: {words}\nuntil then: {tally}")))
        }
        Ok(other) => Err(Failure::Wrong(format!("{again}\n{other:?}"))),
        Err(Failure::Refused(problem)) => {
            Err(Failure::Wrong(format!("{again}\n{problem}{}", last_fault(running, &problem))))
        }
        Err(failure) => Err(failure.again_by(&again)),
    }
}

/// Why the stress server died, if it did.
fn last_fault(running: &mut Running, problem: &Problem) -> String {
    match problem {
        Problem::Kernel(_) => {
            format!("; newest fault: {:x?}", running.link.ask(&Request::Fault { index: 0 }, STOP))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_in_both_notations() {
        assert_eq!(parse_seed("17"), Ok(17));
        assert_eq!(parse_seed("0x11"), Ok(17));
        assert!(parse_seed("0xg").is_err() && parse_seed("").is_err() && parse_seed("-1").is_err());
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(session(5), session(5));
        let drawn = |workers, keys| {
            (0..15).any(|seed| (session(seed).workers, session(seed).keys) == (workers, keys))
        };
        assert!((1..=3).all(|workers| (0..=MOST_KEYS).all(|keys| drawn(workers, keys))));
    }
}
