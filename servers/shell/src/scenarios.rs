//! Commands for the test server.

use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::string::ToString;
use core::fmt::Write;
use core::time::Duration;
use libpks::abi::Name;
use libpks::proto::pks_test::{
    Armed, CRASH, Listed, Outcome, PksTest, Refusal, Reply, Request, SCENARIOS, Verdict,
};
use libpks::rt::{CallError, Client, Env, Error, Inspect, Instant, time};

/// How long a server may take to be there again.
const RESTART: Duration = Duration::from_secs(5);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn list(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let server = env.client::<PksTest>()?;
    let mut from = 0;
    loop {
        match server.call(&Request::List { from })? {
            Reply::Listing(part) if part.is_empty() => return Ok(()),
            Reply::Listing(part) => {
                for Listed { name, about } in &part {
                    let _ = writeln!(screen, "  {name:<26} {about}");
                }
                from += part.len() as u32;
            }
            Reply::Refused(refusal) => return Err(Trouble::Refused(refusal.to_string())),
            _ => return Err(Trouble::OtherReply),
        }
    }
}

pub(crate) fn run_one(env: &Env, screen: &mut Screen, name: &str) -> Result<(), Trouble> {
    let outcome = run(env, name)?;
    print(screen, name, &outcome);
    Ok(())
}

/// Runs all that this shell knows, so that a server that hides one is found out.
pub(crate) fn run_all(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in SCENARIOS {
        let outcome = run(env, scenario.name)
            .unwrap_or_else(|trouble| Outcome::new(Verdict::Fail, 0, format_args!("{trouble}")));
        match outcome.verdict {
            Verdict::Pass => passed += 1,
            Verdict::Fail => failed += 1,
            Verdict::Skip => skipped += 1,
        }
        print(screen, scenario.name, &outcome);
        screen.flush();
    }
    let _ = writeln!(screen, "{passed} passed, {failed} failed, {skipped} skipped");
    Ok(())
}

fn print(screen: &mut Screen, name: &str, outcome: &Outcome) {
    let Outcome { verdict, checks, seen } = outcome;
    let _ = writeln!(screen, "{verdict}  {name:<26} {checks:>4} checks  {seen}");
}

fn run(env: &Env, name: &str) -> Result<Outcome, Trouble> {
    let unknown = || Trouble::Refused(Refusal::UnknownScenario.to_string());
    let server = env.client::<PksTest>()?;
    let request = Request::Run { name: Name::try_from(name).map_err(|_| unknown())? };
    match server.call(&request)? {
        Reply::Done(outcome) => Ok(outcome.judged(name)),
        Reply::Armed(armed) if name == CRASH => crash(env, server, &request, armed),
        Reply::Refused(refusal) => Err(Trouble::Refused(refusal.to_string())),
        _ => Err(Trouble::OtherReply),
    }
}

/// Carries out the armed crash, and judges it from outside.
fn crash(env: &Env, server: Client<PksTest>, request: &Request, armed: Armed) -> Result<Outcome, Trouble> {
    let inspect: Inspect = env.capability("inspect")?;
    let reply = server.call(request);
    let report = inspect.fault(0)?;
    let call = match &reply {
        Ok(reply) => Ok(reply),
        Err(CallError::Failed(error) | CallError::Refused(error)) => Err(*error),
        Err(CallError::BadReply) => Err(Error::Malformed),
    };
    Ok(armed.verdict(call, report.as_ref(), answers(server)).judged(CRASH))
}

/// Whether the server answers within the time that a restart may take.
fn answers(server: Client<PksTest>) -> bool {
    let deadline = Instant::after(RESTART);
    while Instant::now() < deadline {
        if matches!(server.call_until(&Request::List { from: 0 }, deadline), Ok(Reply::Listing(_))) {
            return true;
        }
        if time::sleep(LOOK).is_err() {
            return false;
        }
    }
    false
}
