//! A server that dies in every way it can, again and again: it is started again each time, and nothing stays behind.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine};
use libpks::abi::inspect::Objects;
use libpks::proto::adversary::Death;
use libpks::proto::testlink::{Endured, Reply, Request};
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};

use crate::lab::Lab;
use crate::scenarios::EXCHANGE;

/// After so many deaths at most everything is counted.
const BATCH: u32 = 50;
/// After so many rounds the counts must have come to rest.
const ROUNDS: usize = 60;
/// How many more places the tables may have in the end: fewer than the deaths of the shortest run.
const SLACK: u32 = 8;
/// What a batch may take.
const LIMIT: Duration = Duration::from_secs(180);
/// Deaths of each kind in every run, and with all configurations, with keys for supervisor pages.
const SLICE: u32 = 25;
const FULL: u32 = 1000;

/// The boots.
pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let cpus: &[u32] = if full { &[1, 4] } else { &[1] };
    let times = |cpu| if full && cpu == Cpu::Pks { FULL } else { SLICE };
    let all = |&cpu| cpus.iter().map(move |&cpus| plan(lab, cpus, cpu, times(cpu)));
    Cpu::kinds(full).iter().flat_map(all).collect()
}

fn plan(lab: &Arc<Lab>, cpus: u32, cpu: Cpu, times: u32) -> Plan {
    let exercise = |death: Death| {
        let name = format!("{death:?}").to_lowercase();
        Exercise::new(format!("survives_{name}"), move |running| survive(running, death, times))
    };
    let machine = Machine::new(Loader::Direct).cpus(cpus).cpu(cpu.model()).memory_mib(128);
    let exercises = Death::ALL.into_iter().map(exercise).collect();
    let mut plan = Plan::new(
        format!("endurance_cpus{cpus}{}", cpu.suffix()),
        lab.boots(machine),
        Ending::Closing,
        exercises,
    );
    plan.weight = cpus as usize;
    plan
}

fn survive(running: &mut Running, death: Death, times: u32) -> Result<(), Failure> {
    let before = settled(running, |running| batch(running, death, 5).map(drop))?;
    let (mut left, mut all) = (times, Endured::default());
    while left > 0 {
        let count = left.min(BATCH);
        let endured = batch(running, death, count)?;
        let after = objects(running)?;
        check(is_as_before(&before, &after), || format!("not as before: {before:#?} and now {after:#?}"))?;
        left -= count;
        all.answered += endured.answered;
        all.died += endured.died;
        all.millis += endured.millis;
    }
    check(all.answered > 0, || "nobody was answered in between".into())?;
    println!(
        "endurance: {times} times {death:?} in {} ms, {} calls answered, {} told of a death",
        all.millis, all.answered, all.died
    );
    Ok(())
}

/// Whether nothing stayed behind. The tables have as many places as were ever used at one time, which may be one or two
/// more when the end of one domain and the start of the next meet in another way; each takes a frame at the most.
fn is_as_before(before: &Objects, after: &Objects) -> bool {
    let more = after.slots.saturating_sub(before.slots);
    let frames = before.frames_free.saturating_sub(after.frames_free);
    let same = Objects { slots: before.slots, frames_free: before.frames_free, ..*after };
    more <= SLACK && frames <= u64::from(more) && same == *before
}

/// Does something again and again until the counts stay as they are. What is made once and kept (tables that grow, page
/// tables of a slot, reports of faults, a heap) is made meanwhile; what leaks never comes to rest.
pub(crate) fn settled(
    running: &mut Running,
    do_fn: impl Fn(&mut Running) -> Result<(), Failure>,
) -> Result<Objects, Failure> {
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        do_fn(running)?;
        seen.push(objects(running)?);
        if let [.., first, second, third] = seen[..]
            && first == second
            && second == third
        {
            return Ok(third);
        }
    }
    let last = &seen[seen.len() - 2..];
    let frames: Vec<_> = seen.iter().map(|objects| objects.frames_free).collect();
    Err(Failure::Wrong(format!("the counts do not come to rest: {last:#?}\nfree frames: {frames:?}")))
}

/// So many deaths, each of which must come and be followed by a restart, with every call accounted for.
fn batch(running: &mut Running, death: Death, times: u32) -> Result<Endured, Failure> {
    let endured = match running.link.ask(&Request::Endure { death, times }, LIMIT)? {
        Reply::Endured(endured) => endured,
        other => return Err(Failure::Wrong(format!("not a count: {other:?}"))),
    };
    // One that spins may have to be stopped more than once until the call that spins is among those that end.
    let restarts = match death {
        Death::Spin => endured.restarts >= times,
        _ => endured.restarts == times,
    };
    check(restarts && endured.deaths == times && endured.other == 0, || {
        format!("{times} times {death:?} gave {endured:?}")
    })?;
    Ok(endured)
}

/// How many of everything there is.
pub(crate) fn objects(running: &mut Running) -> Result<Objects, Failure> {
    match running.link.ask(&Request::Objects, EXCHANGE)? {
        Reply::Objects(objects) => Ok(objects),
        other => Err(Failure::Wrong(format!("no counts: {other:?}"))),
    }
}
