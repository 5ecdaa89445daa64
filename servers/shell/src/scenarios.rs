//! Commands for the test server.

use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::string::ToString;
use core::fmt::Write;
use libpks::proto::pks_test::{
    self, ACCEPTED_WITHIN, Listed, Outcome, PksTest, Reply, Request, RunError, SCENARIOS, Verdict,
};
use libpks::rt::{Env, Inspect, Instant};

/// How much of each scenario a list tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line: name, what it shows, where the expectation comes from.
    Short,
    /// All that the server tells.
    Long,
}

pub(crate) fn list(env: &Env, screen: &mut Screen, form: Form) -> Result<(), Trouble> {
    let server = env.client::<PksTest>()?;
    let mut from = 0;
    loop {
        match server.call_until(&Request::List { from }, Instant::after(ACCEPTED_WITHIN))? {
            Reply::Listing(part) if part.is_empty() => return Ok(()),
            Reply::Listing(part) => {
                part.iter().for_each(|line| tell(screen, line, form));
                from += part.len() as u32;
            }
            Reply::Refused(refusal) => return Err(Trouble::Refused(refusal.to_string())),
            _ => return Err(Trouble::OtherReply),
        }
    }
}

fn tell(screen: &mut Screen, line: &Listed, form: Form) {
    let Listed { name, about, source, least_checks } = line;
    let _ = match form {
        Form::Short => writeln!(screen, "  {name:<26} {about} [{source}]"),
        Form::Long => {
            writeln!(screen, "{name}\n  {about}\n  source: {source}\n  at least {least_checks} checks")
        }
    };
}

pub(crate) fn run_one(env: &Env, screen: &mut Screen, name: &str) -> Result<(), Trouble> {
    let outcome = run(env, name)?;
    print(screen, name, &outcome);
    Ok(())
}

/// Runs all that this shell knows, so that a server that hides one is found out.
pub(crate) fn run_all(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let (mut passed, mut failed) = (0, 0);
    for scenario in SCENARIOS {
        let outcome = run(env, scenario.name)
            .unwrap_or_else(|trouble| Outcome::new(Verdict::Fail, 0, format_args!("{trouble}")));
        match outcome.verdict {
            Verdict::Pass => passed += 1,
            Verdict::Fail => failed += 1,
        }
        print(screen, scenario.name, &outcome);
        screen.flush();
    }
    let _ = writeln!(screen, "{passed} passed, {failed} failed");
    Ok(())
}

fn print(screen: &mut Screen, name: &str, outcome: &Outcome) {
    let Outcome { verdict, checks, seen } = outcome;
    let _ = writeln!(screen, "{verdict}  {name:<26} {checks:>4} checks  {seen}");
}

fn run(env: &Env, name: &str) -> Result<Outcome, Trouble> {
    let inspect: Inspect = env.capability("inspect")?;
    pks_test::run(&env.client::<PksTest>()?, inspect, name).map_err(|error| match error {
        RunError::Call(error) => Trouble::Call(error),
        RunError::Refused(refusal) => Trouble::Refused(refusal.to_string()),
        RunError::Unexpected => Trouble::OtherReply,
    })
}
