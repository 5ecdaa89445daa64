//! One mutant after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Mutant;
use super::judge::{Judge, Verdict, Verdicts};
use super::test_name::TestName;

/// What came of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every test that it names failed, with these first lines.
    Caught(Vec<(TestName, String)>),
    /// These passed.
    Survived(Vec<TestName>),
    /// It says nothing about the tests: they did not run, or fail without it too, or only a time limit passed.
    Unclear(String),
    /// The broken tree does not build.
    DidNotBuild(String),
    /// What it replaces is not there.
    Stale(String),
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Caught(_) => "caught",
            Self::Survived(_) => "SURVIVED",
            Self::Unclear(_) => "UNCLEAR",
            Self::DidNotBuild(_) => "DID NOT BUILD",
            Self::Stale(_) => "STALE",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(tests) => {
                for (n, (test, why)) in tests.iter().enumerate() {
                    let lead = if n == 0 { "caught by" } else { ", by" };
                    let why: String = why.chars().take(100).collect();
                    write!(f, "{lead} {test} ({why})")?;
                }
                Ok(())
            }
            Self::Survived(tests) => {
                let tests: Vec<_> = tests.iter().map(ToString::to_string).collect();
                write!(f, "SURVIVED {}", tests.join(", "))
            }
            Self::Unclear(why) | Self::DidNotBuild(why) | Self::Stale(why) => {
                write!(f, "{}: {why}", self.word())
            }
        }
    }
}

/// What came of all mutants.
#[derive(Debug, Default)]
pub struct Summary {
    counts: BTreeMap<&'static str, usize>,
    all: usize,
}

impl Summary {
    /// Counts one more.
    pub fn count(&mut self, outcome: &Outcome) {
        *self.counts.entry(outcome.word()).or_default() += 1;
        self.all += 1;
    }

    /// Whether there were any and each was caught.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.all > 0 && self.counts.get("caught") == Some(&self.all)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mutants", self.all)?;
        self.counts.iter().try_for_each(|(word, count)| write!(f, ", {count} {word}"))
    }
}

/// Whether a test failed by its time limit alone, which a busy host brings about too.
fn is_timeout(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Failed(why) if why.starts_with("TIMEOUT"))
}

/// The tests of these mutants that do not pass on the sound copy, with the reason. What they catch is worth nothing.
///
/// # Errors
/// The sound copy does not build, or a harness does not start.
pub fn unsound(judge: &Judge, mutants: &[Mutant]) -> Result<BTreeMap<TestName, String>> {
    let mut names: Vec<TestName> = mutants.iter().flat_map(|mutant| mutant.caught_by.clone()).collect();
    names.sort();
    names.dedup();
    let harnesses = judge.build(&names)?;
    let mut unsound = BTreeMap::new();
    // Once more for those that failed: with many boots side by side the host is busy.
    for round in 0..2 {
        let verdicts = judge.run(&harnesses, &names, &format!("sound-{round}"))?;
        names.clear();
        unsound.clear();
        for (name, verdict) in verdicts {
            if let Verdict::Failed(why) | Verdict::NotRun(why) = verdict {
                names.push(name.clone());
                unsound.insert(name, why);
            }
        }
        if names.is_empty() {
            break;
        }
    }
    Ok(unsound)
}

/// Breaks the copy with one mutant, runs its tests, and mends the copy.
///
/// # Errors
/// A file cannot be read or written, a harness does not start, or we were told to end.
pub fn carry_out(judge: &Judge, mutant: &Mutant, unsound: &BTreeMap<TestName, String>) -> Result<Outcome> {
    if let Some((name, why)) = mutant.caught_by.iter().find_map(|name| unsound.get_key_value(name)) {
        return Ok(Outcome::Unclear(format!("{name} fails without it too: {why}")));
    }
    let changed = match mutant.changed_files(judge.tree()) {
        Ok(changed) => changed,
        Err(stale) => return Ok(Outcome::Stale(format!("{stale:#}"))),
    };
    let mut originals = Vec::new();
    for (file, text) in &changed {
        let path = judge.tree().join(file);
        originals.push((path.clone(), fs::read(&path)?));
        fs::write(path, text)?;
    }
    let outcome = judge_broken(judge, mutant);
    for (path, bytes) in originals {
        fs::write(path, bytes)?;
    }
    outcome
}

fn judge_broken(judge: &Judge, mutant: &Mutant) -> Result<Outcome> {
    let harnesses = match judge.build(&mutant.caught_by) {
        Ok(harnesses) => harnesses,
        Err(why) => return Ok(Outcome::DidNotBuild(format!("{why:#}"))),
    };
    let mut verdicts = judge.run(&harnesses, &mutant.caught_by, &mutant.name)?;
    if !mutant.hangs && verdicts.values().any(is_timeout) {
        verdicts = judge.run(&harnesses, &mutant.caught_by, &mutant.name)?;
    }
    Ok(outcome(mutant, &verdicts))
}

fn outcome(mutant: &Mutant, verdicts: &Verdicts) -> Outcome {
    let mut caught = Vec::new();
    let mut passed = Vec::new();
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Passed => passed.push(name.clone()),
            Verdict::Failed(_) if is_timeout(verdict) && !mutant.hangs => {
                return Outcome::Unclear(format!("{name} failed by its time limit alone"));
            }
            Verdict::Failed(why) => caught.push((name.clone(), why.clone())),
            Verdict::NotRun(why) => return Outcome::Unclear(format!("{name} was not run: {why}")),
        }
    }
    match () {
        () if !passed.is_empty() => Outcome::Survived(passed),
        () if caught.len() < mutant.caught_by.len() => Outcome::Unclear("a test is missing".into()),
        () => Outcome::Caught(caught),
    }
}

/// Carries out all of these, each judge one at a time, with a line for each and one at the end.
///
/// # Errors
/// As [`carry_out`]; the first of all judges'.
pub fn run(judges: &[Judge], mutants: &[Mutant], unsound: &BTreeMap<TestName, String>) -> Result<Summary> {
    let begun = Instant::now();
    let (left, summary) = (Mutex::new(mutants.iter()), Mutex::new(Summary::default()));
    let work = |judge: &Judge| -> Result<()> {
        while let Some(mutant) = lock(&left).next() {
            let since = Instant::now();
            let outcome = carry_out(judge, mutant, unsound)?;
            lock(&summary).count(&outcome);
            println!("{}: {outcome} [{} s]", mutant.name, seconds(since.elapsed()));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = judges.iter().map(|judge| scope.spawn(|| work(judge))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{summary}, in {} min", begun.elapsed().as_secs().div_ceil(60));
    Ok(summary)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(hangs: bool, tests: &[&str]) -> Mutant {
        Mutant {
            name: "m".into(),
            about: "a".into(),
            harm: "h".into(),
            caught_by: tests.iter().map(|name| name.parse().expect("a name")).collect(),
            slice: false,
            hangs,
            edits: Vec::new(),
        }
    }

    fn judged(hangs: bool, verdicts: &[(&str, Verdict)]) -> Outcome {
        let names: Vec<&str> = verdicts.iter().map(|(name, _)| *name).collect();
        let verdicts =
            verdicts.iter().map(|(name, verdict)| (name.parse().expect("a name"), verdict.clone()));
        outcome(&mutant(hangs, &names), &verdicts.collect())
    }

    #[test]
    fn every_named_test_must_fail() {
        let failed = || Verdict::Failed("broken".into());
        let (a, b) = ("tests/system::a", "tests/system::b");
        assert!(
            matches!(judged(false, &[(a, failed()), (b, failed())]), Outcome::Caught(tests) if tests.len() == 2)
        );
        assert!(matches!(judged(false, &[(a, failed()), (b, Verdict::Passed)]), Outcome::Survived(_)));
        assert!(matches!(judged(false, &[(a, Verdict::Passed)]), Outcome::Survived(_)));
        let not_run = Verdict::NotRun("ignored".into());
        assert!(matches!(judged(false, &[(a, failed()), (b, not_run)]), Outcome::Unclear(_)));
        let two = mutant(false, &[a, b]);
        let one = [(a.parse().expect("a name"), failed())].into();
        assert!(matches!(outcome(&two, &one), Outcome::Unclear(_)), "one is missing");
    }

    #[test]
    fn a_time_limit_alone_is_no_catch_unless_the_machine_must_hang() {
        let late = || Verdict::Failed("TIMEOUT: an answer did not come within 60 s".into());
        assert!(matches!(judged(false, &[("tests/system::a", late())]), Outcome::Unclear(_)));
        assert!(matches!(judged(true, &[("tests/system::a", late())]), Outcome::Caught(_)));
    }

    #[test]
    fn a_run_is_good_if_all_were_caught_and_there_were_any() {
        let mut summary = Summary::default();
        assert!(!summary.is_good());
        summary.count(&Outcome::Caught(Vec::new()));
        assert!(summary.is_good());
        summary.count(&Outcome::Stale("f".into()));
        assert!(!summary.is_good());
        assert_eq!(summary.to_string(), "2 mutants, 1 STALE, 1 caught");
    }
}
