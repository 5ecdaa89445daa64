//! Threads in turn, faults.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use libpks::proto::bench::Place;
use libpks::rt::thread::spawn;
use libpks::rt::{Error, Instant, Notification, Region, measure, time};

use super::Tools;
use crate::STACK;
use crate::table::Table;

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    yields(tools, table)?;
    table.operation(Place::clock, || Ok(Instant::now()))?;
    faults(tools, table)
}

/// Two threads of one urgency, each of which ends the other's count and begins its own.
fn yields(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let other = spawn(STACK, tools.priority.saturating_sub(1), move || {
        while !seen.load(Ordering::Relaxed) {
            measure::end();
            time::yield_now();
        }
    })?;
    let outcome = table.row(Place::yield_switch, || {
        measure::begin();
        time::yield_now();
        Ok(None)
    });
    stop.store(true, Ordering::Relaxed);
    other.join(None)?;
    outcome
}

/// A thread reads what is closed to it; whoever hears of that is more urgent, and ends the count.
fn faults(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let (key, _) = tools.keys.allocate()?;
    let region = Region::create(4096, Some(*key))?;
    let closed = region.unguarded()?;
    let note = Arc::new(Notification::create()?);
    table.row(Place::fault_report, || {
        let heard = Arc::clone(&note);
        let go = Arc::new(Notification::create()?);
        let may_go = Arc::clone(&go);
        let subject = spawn(STACK, tools.priority.saturating_sub(2), move || -> Result<u64, Error> {
            may_go.wait(None)?;
            measure::begin();
            closed.read_u64(0)
        })?;
        subject.thread().on_fault(**note, 1)?;
        let listener = spawn(STACK, tools.priority, move || -> Result<u64, Error> {
            let bits = heard.wait(None);
            measure::end();
            bits
        })?;
        go.signal(1)?;
        listener.join(None)??;
        subject.thread().kill()?;
        Ok(None)
    })
}
