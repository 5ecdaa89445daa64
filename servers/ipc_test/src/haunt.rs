//! Threads that use a region without a pause, on a CPU of their own, until they are stopped.

use core::convert::Infallible;

use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Error, Instant, Notification, Region, Thread};

use crate::crew::STACK;

/// The thread has used the region some times.
pub(crate) const RUNS: u64 = 2;
/// The thread stands at a fault.
pub(crate) const FAULT: u64 = 4;
/// Where in the region the thread counts.
pub(crate) const COUNT: u64 = 8;

/// The thread. What it gives is why it could not go on.
pub(crate) type Haunter = JoinHandle<Result<Infallible, Error>>;

/// Starts it; with `opens` it opens the region, else it has to be open for all.
pub(crate) fn start(
    priority: u8,
    cpu: u32,
    region: Region,
    opens: bool,
    note: Notification,
) -> Result<Haunter, Error> {
    spawn(STACK, priority, move || {
        let thread = Thread::current()?;
        thread.on_fault(note, FAULT)?;
        thread.bind(Some(cpu))?;
        // Nothing on the stack of a thread that is killed is dropped.
        drop(thread);
        let raw = region.unguarded()?;
        let _held = if opens { Some(region.open_write()?) } else { None };
        haunt(raw, note)
    })
}

/// Writes, reads, and enters the kernel, again and again.
fn haunt(raw: Unguarded, note: Notification) -> Result<Infallible, Error> {
    let mut count = 0;
    loop {
        count += 1;
        raw.write_u64(COUNT, count)?;
        raw.read_u64(0)?;
        if count == 3 {
            note.signal(RUNS)?;
        }
        let _ = Instant::now();
    }
}
