//! Carries out a plan: boots the guest, does the exercises, demands the right ending.
//!
//! A result counts only if its boot ended as the plan says. When an exercise loses the guest, that exercise has failed;
//! the others, those included that had passed in the lost boot, are done in a new one.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use libpks::proto::testlink::{Reply, Request};

use crate::failure::Failure;
use crate::plan::{End, Ending, Exercise, Plan, Running, compare_closing};

/// Boots of one plan at most.
const BOOTS: usize = 4;
/// Lines of the guest's console that go with a failure.
const LOG_LINES: usize = 60;

/// What came of an exercise.
pub type Result = std::result::Result<(), Failed>;

/// What came of a plan.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// One result for each exercise that was wanted.
    pub results: BTreeMap<String, Result>,
    /// How often the machine was booted: more than once if the guest was lost.
    pub boots: usize,
    /// From the first boot's begin to the last one's end.
    pub elapsed: Duration,
}

/// A failure and the end of the guest's console at that time.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why it failed.
    pub failure: Failure,
    /// What the guest had said.
    pub log: String,
}

impl Failed {
    fn new(failure: Failure, running: Option<&Running>) -> Self {
        Self { failure, log: running.map(|running| running.console.tail(LOG_LINES)).unwrap_or_default() }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.failure)?;
        match self.log.is_empty() {
            true => Ok(()),
            false => write!(f, "\n--- the guest's console ---\n{}\n---", self.log),
        }
    }
}

/// Does those exercises of `plan` that are `wanted`; gives what came of each.
pub fn conduct(plan: &Plan, wanted: impl Fn(&str) -> bool) -> Session {
    let begun = Instant::now();
    let mut session = Session::default();
    let mut left: VecDeque<_> = plan.exercises.iter().filter(|exercise| wanted(&exercise.name)).collect();
    while session.boots < BOOTS && !left.is_empty() {
        session.boots += 1;
        let boot = one_boot(plan, &mut left);
        session.results.extend(boot);
    }
    for exercise in left {
        session.results.insert(exercise.name.clone(), Err(Failed::new(Failure::NotRun(BOOTS), None)));
    }
    session.elapsed = begun.elapsed();
    session
}

/// One boot: takes exercises from `left` until they are done or the guest is lost, and gives what is known for good.
fn one_boot(plan: &Plan, left: &mut VecDeque<&Exercise>) -> Vec<(String, Result)> {
    let mut running = match start(plan) {
        Ok(running) => running,
        Err(failed) => return left.drain(..).map(|e| (e.name.clone(), Err(failed.clone()))).collect(),
    };
    let mut passed = VecDeque::new();
    let mut results = Vec::new();
    while let Some(exercise) = left.pop_front() {
        let Err(failure) = (exercise.run_fn)(&mut running) else {
            passed.push_back(exercise);
            continue;
        };
        let lost = failure.loses_guest();
        results.push((exercise.name.clone(), Err(Failed::new(failure, Some(&running)))));
        if lost {
            // What had passed has no valid ending: once more.
            *left = passed.into_iter().chain(left.drain(..)).collect();
            return results;
        }
    }
    let ended = end(plan, &mut running).map_err(|failure| Failed::new(failure, Some(&running)));
    results.extend(passed.into_iter().map(|exercise| (exercise.name.clone(), ended.clone())));
    results
}

fn start(plan: &Plan) -> std::result::Result<Running, Failed> {
    let mut running =
        (plan.boot_fn)().map_err(|error| Failed::new(Failure::NotBooted(format!("{error:#}")), None))?;
    let Some(limit) = plan.ready_limit else { return Ok(running) };
    match running.link.hello(limit) {
        Ok(Reply::Ready { version, abi, .. })
            if version == libpks::proto::testlink::VERSION && abi == libpks::abi::VERSION =>
        {
            Ok(running)
        }
        Ok(other) => Err(Failed::new(
            Failure::Wrong(format!("not a greeting of our version: {other:?}")),
            Some(&running),
        )),
        Err(failure) => Err(Failed::new(failure, Some(&running))),
    }
}

/// Demands the ending that the plan says.
fn end(plan: &Plan, running: &mut Running) -> std::result::Result<(), Failure> {
    let expected = match &plan.ending {
        Ending::Closing => {
            finish(plan, running)?;
            // The exit code must say what the record says; a scenario that failed has failed by itself already.
            if running.link.counted().failed == 0 { End::Success } else { End::Failure }
        }
        Ending::Exit(end) => end.clone(),
        Ending::Killed => {
            return match running.process.wait(Duration::from_millis(100)) {
                None => Ok(()),
                Some(end) => {
                    Err(Failure::WrongEnd { got: end.to_string(), expected: "a guest that goes on".into() })
                }
            };
        }
    };
    let got = running.wait(plan.end_limit)?;
    if got == expected {
        return Ok(());
    }
    Err(Failure::WrongEnd { got: got.to_string(), expected: expected.to_string() })
}

fn finish(plan: &Plan, running: &mut Running) -> std::result::Result<(), Failure> {
    let before = running.link.counted();
    match running.link.ask(&Request::Finish, plan.end_limit) {
        Ok(Reply::Closing(guest)) => compare_closing(guest, running.link.counted()),
        Ok(other) => Err(Failure::NoClosing(format!("instead it sent {other:?}, after {before:?}"))),
        Err(failure @ Failure::TimedOut { .. }) => Err(failure),
        Err(failure) => Err(Failure::NoClosing(failure.to_string())),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
