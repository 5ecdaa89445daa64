//! A signal from one CPU meets a thread of another that is on its way to sleep.
//!
//! As in [`super::races`] the harness drives both sides, to all instructions of both ways (`tests/tests/races/waking.rs`).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use libpks::rt::thread::JoinHandle;
use libpks::rt::{Error, Instant, Notification, Thread};

use super::races::{First, ROUNDS, finish_line, other_cpu, over, starting_line, until};
use crate::crew::{PATIENCE, Tools};
use crate::haunt::RUNS;
use libpks::proto::pks_test::checks::{Checks, Run};

/// The next thing that the sleeper does is to wait.
#[inline(never)]
pub(crate) fn falls_asleep() {
    core::hint::black_box(4);
}

/// The sleeper has been woken.
#[inline(never)]
pub(crate) fn woken() {
    core::hint::black_box(5);
}

pub(super) fn wake(tools: &Tools, checks: &Checks) -> Run<&'static str> {
    let _first = First::bind()?;
    let cpu = other_cpu(tools)?;
    let notes = (Notification::create()?, Notification::create()?);
    let (mine, theirs) = (*notes.0, *notes.1);
    // Up to which round the sleeper may go.
    let go = Arc::new(AtomicU64::new(0));
    let goes = Arc::clone(&go);
    let sleeper: JoinHandle<Result<(), Error>> = tools.thread(move || {
        Thread::current()?.bind(Some(cpu))?;
        mine.signal(RUNS)?;
        for round in 1..=ROUNDS {
            while goes.load(Ordering::SeqCst) < round {
                let _ = Instant::now();
            }
            // Asks the kernel for the time.
            let until = Instant::after(PATIENCE);
            falls_asleep();
            theirs.wait(Some(until))?;
            woken();
            mine.signal(RUNS)?;
        }
        Ok(())
    })?;
    until(mine, RUNS)?;
    for round in 1..=ROUNDS {
        // Whoever drives this lets the sleeper go before this side does.
        starting_line((&raw const *go).expose_provenance() as u64);
        go.store(round, Ordering::SeqCst);
        theirs.signal(1)?;
        finish_line();
        until(mine, RUNS)?;
        over();
    }
    let woken = sleeper.join(Some(Instant::after(PATIENCE)))?;
    checks.same(format_args!("the sleeper"), woken, Ok(()))?;
    checks.same(format_args!("the last round"), go.load(Ordering::SeqCst), ROUNDS)?;
    Ok("every signal woke")
}
