//! Too much of something.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::layout::PAGE;
use libpks::proto::console::{Console, Request};
use libpks::rt::serve::{self, WordServer};
use libpks::rt::thread::spawn;
use libpks::rt::{CapRights, Capability, Client, Endpoint, Error, Notification, Region, time};

use crate::act::{STACK, read};
use crate::{Case, Loot, Means, Outcome};

const PIECE: usize = 64 * 1024;
/// More than any quota holds.
const MANY: usize = 1 << 20;
const FLOOD: Duration = Duration::from_millis(150);
const CALLERS: usize = 8;
const FAULTS: u32 = 1000;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let Means { console, priority, .. } = *case.means;
    Some(match case.name {
        "exhaust_heap" => exhaust_heap(),
        "exhaust_threads" => {
            until_refused(|| spawn(STACK, priority, || -> () { serve::park() }).map(|thread| thread.thread()))
        }
        "exhaust_regions" => until_refused(|| Region::create(PAGE, None).map(|made| made.keep())),
        "exhaust_large_region" => large_regions(),
        "exhaust_capabilities" => exhaust_capabilities(),
        "exhaust_endpoints" => until_refused(|| Endpoint::create().map(|made| made.keep())),
        "exhaust_notifications" => until_refused(|| Notification::create().map(|made| made.keep())),
        "exhaust_openings" => exhaust_openings(),
        "exhaust_activations" => exhaust_activations(),
        "call_flood" => call_flood(console, priority),
        "signal_flood" => signal_flood(priority),
        "fault_flood" => fault_flood(priority),
        _ => return None,
    })
}

/// Makes things until the kernel makes no more, and says why it does not.
fn until_refused<T>(mut make_fn: impl FnMut() -> Result<T, Error>) -> Outcome {
    for _ in 0..MANY {
        make_fn()?;
    }
    Ok(Loot::Got(MANY as u64))
}

fn exhaust_heap() -> Outcome {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for _ in 0..MANY {
        let mut piece = Vec::new();
        if pieces.try_reserve(1).is_err() || piece.try_reserve_exact(PIECE).is_err() {
            // The allocator does not say why; the kernel does.
            return Region::create(PIECE as u64, None).map(|_| Loot::Got(0));
        }
        pieces.push(piece);
    }
    Ok(Loot::Got(MANY as u64))
}

/// Sizes up to what no number holds any more when it is rounded up. The smallest is a matter of the quota.
fn large_regions() -> Outcome {
    for bytes in [u64::MAX, u64::MAX - PAGE, 1 << 63, 1 << 47, 1 << 40, 1 << 39, 1 << 30] {
        if Region::create(bytes, None).is_ok() {
            return Ok(Loot::Got(bytes));
        }
    }
    Region::create(64 << 20, None).map(|_| Loot::Got(64 << 20))
}

fn exhaust_capabilities() -> Outcome {
    let source = Notification::create()?.keep();
    until_refused(|| source.mint(CapRights::SIGNAL, 0).map(|made| made.keep()))
}

fn exhaust_openings() -> Outcome {
    let region = Region::create(PAGE, None)?.keep();
    until_refused(|| region.open_read().map(core::mem::forget))
}

/// Answers with what it is asked.
struct Echo;

impl WordServer for Echo {
    fn handle(&self, _badge: u64, words: [u64; 8]) -> [u64; 8] {
        words
    }
}

fn exhaust_activations() -> Outcome {
    let endpoint = Endpoint::create()?.keep();
    let serve = |activations| serve::start_words(endpoint, Echo, activations, STACK);
    crate::all_refused(Error::InvalidArgument, [0, 65, 1000, 1 << 32, u64::MAX].map(serve))
}

fn call_flood(console: Endpoint, priority: u8) -> Outcome {
    for _ in 0..CALLERS {
        spawn(STACK, priority, move || {
            loop {
                let _ = Client::<Console>::new(console).call(&Request::Read);
            }
        })?;
    }
    time::sleep(FLOOD)?;
    Ok(Loot::Nothing)
}

fn signal_flood(priority: u8) -> Outcome {
    let notification = Notification::create()?.keep();
    spawn(STACK, priority, move || while notification.signal(u64::MAX).is_ok() {})?;
    time::sleep(FLOOD)?;
    Ok(Loot::Nothing)
}

/// A thread that does nothing but fault, and one that lets it go on each time.
fn fault_flood(priority: u8) -> Outcome {
    let faulted = Notification::create()?.keep();
    let begin = Notification::create()?.keep();
    let reader = spawn(STACK, priority, move || begin.wait(None).map(|_| read(8)))?;
    let thread = reader.thread();
    thread.on_fault(faulted, 1)?;
    begin.signal(1)?;
    for _ in 0..FAULTS {
        faulted.wait(None)?;
        thread.resume()?;
    }
    faulted.wait(None)?;
    thread.kill()?;
    Ok(Loot::Nothing)
}
