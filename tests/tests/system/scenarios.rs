//! Exercises over the test link, for any boot.

use std::time::Duration;

use libpks::abi::inspect::{DomainInfo, DomainState, Isolation, SystemInfo};
use libpks::abi::name;
use libpks::proto::ipc_test;
use libpks::proto::pks_test::{self, SERVER, Scenario, Verdict};
use libpks::proto::testlink::{Problem, Reply, Request};
use tests::failure::{Failure, check};
use tests::plan::{Exercise, Running};

/// What one exchange may take, the guest being busy with three others on a slow host.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(30);
/// What a scenario may take.
const SCENARIO: Duration = Duration::from_secs(60);

/// All scenarios that the guest lists, in its order.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    pks_test::SCENARIOS.iter().chain(ipc_test::SCENARIOS)
}

/// Whether a test of this name is a scenario.
pub(crate) fn is_scenario(name: &str) -> bool {
    scenarios().any(|scenario| scenario.name == name)
}

/// One exercise a scenario.
pub(crate) fn all() -> impl Iterator<Item = Exercise> {
    scenarios().map(|scenario| Exercise::new(scenario.name, |running| run(running, scenario)))
}

/// Every mapping is as the rules say also when a hundred domains have come and gone.
pub(crate) fn audit_at_the_end() -> Exercise {
    let audit = pks_test::find("P19_audit").expect("the scenario that audits");
    Exercise::new("mappings_are_right_at_the_end", |running| run(running, audit))
}

/// Those of [`all`] that have one of these names.
pub(crate) fn some(names: &'static [&'static str]) -> impl Iterator<Item = Exercise> {
    let known = |name: &&str| scenarios().any(|scenario| scenario.name == *name);
    assert!(names.iter().all(known), "a scenario of {names:?} does not exist");
    all().filter(|exercise| names.contains(&exercise.name.as_str()))
}

fn run(running: &mut Running, scenario: &Scenario) -> Result<(), Failure> {
    let request = Request::Run { name: name(scenario.name) };
    let outcome = match running.link.ask(&request, SCENARIO)? {
        Reply::Outcome(outcome) => outcome.judged(scenario.name),
        other => return Err(Failure::Wrong(format!("not an outcome: {other:?}"))),
    };
    let (verdict, checks, seen) = (outcome.verdict, outcome.checks, &outcome.seen);
    check(verdict == Verdict::Pass && !seen.is_empty(), || {
        format!("{verdict} instead of {} after {checks} checks: {seen}", Verdict::Pass)
    })?;
    if pks_test::crash(scenario.name).is_some() { others_live(running) } else { Ok(()) }
}

/// After a crash every domain must run, the restarted one included.
fn others_live(running: &mut Running) -> Result<(), Failure> {
    let alive = live_domains(running)?;
    check(alive.iter().any(|domain| domain.name == SERVER), || format!("{SERVER} does not run: {alive:#?}"))?;
    check(alive.iter().any(|domain| domain.name == "shell"), || format!("the shell does not run: {alive:#?}"))
}

/// The domains that run.
pub(crate) fn live_domains(running: &mut Running) -> Result<Vec<DomainInfo>, Failure> {
    let mut domains = running.link.domains(EXCHANGE)?;
    domains.retain(|domain| domain.state == DomainState::Running);
    Ok(domains)
}

/// The machine as the guest sees it.
pub(crate) fn system(running: &mut Running) -> Result<SystemInfo, Failure> {
    match running.link.ask(&Request::Hello, EXCHANGE)? {
        Reply::Ready { system, .. } => Ok(system),
        other => Err(Failure::Wrong(format!("not a greeting: {other:?}"))),
    }
}

/// The machine is the one that was asked for.
pub(crate) fn machine_is(cpus: u32, levels: u8, memory_mib: u64, isolation: Isolation) -> Exercise {
    Exercise::new("machine_is_as_asked", move |running| {
        let system = system(running)?;
        let same = (system.cpus, system.paging_levels, system.isolation) == (cpus, levels, isolation);
        check(same, || format!("the guest sees {system:?}"))?;
        // The kernel's image, its tables, the loader and the firmware take some.
        let frames = memory_mib * 256;
        let plausible = (frames * 3 / 4..=frames).contains(&system.frames_total);
        check(plausible && system.frames_free < system.frames_total, || {
            format!(
                "{} of {} frames free on a machine with {frames}",
                system.frames_free, system.frames_total
            )
        })
    })
}

/// The guest lists the scenarios that the harness was built with, page by page.
pub(crate) fn lists_scenarios() -> Exercise {
    Exercise::new("scenarios_are_listed", |running| {
        let mut listed = Vec::new();
        loop {
            let from = u32::try_from(listed.len()).unwrap_or(u32::MAX);
            match running.link.ask(&Request::List { from }, EXCHANGE)? {
                Reply::Listing(page) if page.is_empty() => break,
                Reply::Listing(page) => listed.extend(page.iter().map(|line| line.name.to_string())),
                other => return Err(Failure::Wrong(format!("not a list: {other:?}"))),
            }
        }
        let known: Vec<_> = scenarios().map(|scenario| scenario.name).collect();
        check(listed == known, || format!("the guest lists {listed:?}"))
    })
}

/// A name that no scenario has is refused with its typed error, by the test server itself.
pub(crate) fn unknown_scenario() -> Exercise {
    Exercise::new("unknown_scenario_is_refused", |running| {
        for unknown in ["", "S99_nothing", "S1_defaults ", "%s%n\u{1b}[2J"] {
            match running.link.ask(&Request::Run { name: name(unknown) }, EXCHANGE) {
                Err(Failure::Refused(Problem::UnknownScenario)) => {}
                other => return Err(Failure::Wrong(format!("{unknown:?} gave {other:?}"))),
            }
        }
        Ok(())
    })
}

/// Bytes that are no frames, frames that are no requests, and requests that are cut: the next good one is answered.
pub(crate) fn garbage() -> Exercise {
    Exercise::new("garbage_on_the_link_does_no_harm", |running| {
        let mut noise = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_usize {
            let bytes: Vec<u8> = (0..round * 97).map(|_| xorshift(&mut noise)).collect();
            running.link.send_raw(&bytes)?;
            system(running)?;
        }
        for bytes in [[0; 64].as_slice(), &[0xff; 8000], &[1; 8000], b"GET / HTTP/1.0\r\n\r\n\0"] {
            running.link.send_raw(bytes)?;
            system(running)?;
        }
        Ok(())
    })
}

fn xorshift(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u8
}
