//! Runs a race again and again, with the other CPU at one instruction of its way after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::name;
use libpks::proto::pks_test::Verdict;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{PATIENT, boot, close};
use tests::plan::{Running, is_full};

use crate::track::{OTHER, Position, Race, Track, Where};

/// Rounds in which a position is looked for.
const TRIES: usize = 4;

/// Has the guest run a scenario until it is told to stop; gives the link back.
fn scenarios(mut running: Running, scenario: &str, stop: &AtomicBool) -> Result<Running> {
    while !stop.load(Ordering::SeqCst) {
        let reply = running.link.ask(&Request::Run { name: name(scenario) }, PATIENT * 2)?;
        let Reply::Outcome(outcome) = &reply else { bail!("not an outcome: {reply:?}") };
        ensure!(outcome.verdict == Verdict::Pass, "{scenario}: {outcome:?}");
    }
    Ok(running)
}

/// Runs races one after the other in one boot, each with the other side at each of its positions.
pub(crate) fn drive(races: &[Race]) -> Result<()> {
    let (guest, mut running) = boot(2)?;
    let mut track = Track::new(guest, &mut running)?;
    for race in races {
        running = drive_by(&mut track, running, race.scenario, |track| drive_one(track, race))?;
    }
    close(running)
}

/// Drives a scenario, which the guest runs again and again meanwhile.
pub(crate) fn drive_by(
    track: &mut Track,
    running: Running,
    scenario: &'static str,
    drive_fn: impl FnOnce(&mut Track) -> Result<()>,
) -> Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    track.guest.gdb.interrupt()?;
    let worker = thread::spawn(move || scenarios(running, scenario, &told));
    let driven = drive_fn(track).with_context(|| scenario.to_owned());
    stop.store(true, Ordering::SeqCst);
    let _ = track.guest.gdb.resume();
    let ended = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    // What the guest saw says more than what we saw.
    match (driven, ended) {
        (Ok(()), ended) => ended,
        (Err(driven), Err(ended)) => bail!("{driven:#}; the guest: {ended:#}"),
        (Err(driven), Ok(running)) => bail!("{driven:#}\n{}", running.console.tail(20)),
    }
}

fn drive_one(track: &mut Track, race: &Race) -> Result<()> {
    let way = track.round()?;
    let chosen = choose(&way, race.thin, race.sparse);
    let (mut seen, mut missed) = ([0_usize; 3], [0_usize; 3]);
    for (n, position) in chosen.iter().enumerate() {
        let what = || format!("with CPU {OTHER} at {:#x}, {:?}", position.rip, position.place);
        let mut place = None;
        // The other side may be past it when the owner comes to the starting line; or it lies on the way of an interrupt
        // that does not come this time. Inside of the lock the full run has many of the latter, and others like them.
        let tries = if counts_if_missed(position.place) { TRIES } else { 1 };
        for _ in 0..tries {
            place = track.run(race, position.rip, n % 2 == 1).with_context(what)?;
            if place.is_some() {
                break;
            }
        }
        match place {
            Some(place) => seen[place as usize] += 1,
            None => missed[position.place as usize] += 1,
        }
    }
    println!(
        "{}: {} instructions, {seen:?} outside, waiting, inside, {missed:?} missed",
        race.scenario,
        way.len()
    );
    ensure!(seen[Where::Outside as usize] > 0, "CPU {OTHER} was never outside");
    let [outside, waiting, inside] = missed;
    let total = seen.iter().sum::<usize>();
    let enough = if is_full() {
        (outside + waiting) * 10 < total && inside < total / 2
    } else {
        (outside + waiting + inside) * 10 < chosen.len()
    };
    ensure!(enough, "{missed:?} of {} positions were missed", chosen.len());
    Ok(())
}

/// Whether a position there must be met: in the full run many inside of the lock lie on the way of an interrupt.
pub(crate) fn counts_if_missed(place: Where) -> bool {
    place != Where::Inside || !is_full()
}

/// The positions to try, each instruction once: of those outside each `1 / thin`, of those with the lock each
/// `1 / sparse`; in the full run all outside, and ten times as many with the lock, for which the owner waits wherever it
/// is held.
pub(crate) fn choose(way: &[Position], thin: usize, sparse: usize) -> Vec<Position> {
    let full = is_full();
    let mut counts = [0_usize; 3];
    let mut known = std::collections::BTreeSet::new();
    let new = way.iter().filter(|position| known.insert(position.rip));
    new.filter(|position| {
        let count = &mut counts[position.place as usize];
        *count += 1;
        let each = match position.place {
            Where::Inside if full => (sparse / 10).max(1),
            _ if full => 1,
            Where::Inside => sparse,
            Where::Outside => thin,
            Where::Waiting => 1,
        };
        (*count - 1).is_multiple_of(each)
    })
    .copied()
    .collect()
}
