//! The worker: threads that make random calls, until they have made as many as they were told, or cannot go on.

mod arguments;
mod call;
mod draw;
mod promise;

use core::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use libpks::abi::{Error, Syscall};
use libpks::rt::region::Access;
use libpks::rt::sync::Mutex;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Capability, Env, EnvError, Instant, Region, start, thread};

use crate::diary::Notes;
use call::{Elsewhere, Entry, Registers, enter, fill_buffer};
use draw::{Draw, Known};

/// The worker's role.
pub(crate) const WORKER: &str = "worker";
/// The name of its capability to the diary.
pub(crate) const DIARY: &str = "diary";
/// Its arguments.
pub(crate) const SEED: &str = "seed";
pub(crate) const CALLS: &str = "calls";
/// Threads that make calls from the beginning.
const THREADS: u64 = 2;
/// Calls that an activation makes before it replies.
const CALLS_OF_ACTIVATION: u64 = 4;
const STACK: u64 = 16 * 1024;

/// What the threads need to begin.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    calls: u64,
    priority: u8,
    page: Unguarded,
}

static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
static KNOWN: Known = Known::new();
/// The next slot of the diary.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Makes calls.
pub(crate) fn work(env: &Env) -> Result<(), EnvError> {
    let number = |key: &str| env.arg(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    let diary: Region = env.capability(DIARY)?;
    let page = diary.open_global(Access::ReadWrite).and_then(|()| diary.unguarded());
    let page = page.unwrap_or_else(|error| panic!("no diary: {error}"));
    let plan = Plan { seed: number(SEED), calls: number(CALLS) / THREADS, priority: env.priority(), page };
    let mut random = Rng::with_seed(plan.seed);
    for (_, held) in env.capabilities().filter(|(name, _)| *name != DIARY) {
        if let Ok(identity) = held.identify() {
            KNOWN.learn(identity.kind, held.handle().raw(), &mut random);
        }
    }
    *PLAN.lock() = Some(plan);
    for _ in 1..THREADS {
        let spawned = thread::spawn(STACK, plan.priority, move || make_calls(&plan, plan.calls));
        // Its handle stays: whoever makes random calls may come across it.
        spawned.map(core::mem::forget).unwrap_or_else(|error| panic!("no thread: {error}"));
    }
    make_calls(&plan, plan.calls);
    Ok(())
}

/// Makes calls in a thread that has not made any; without a place in the diary it makes none.
fn make_calls(plan: &Plan, calls: u64) {
    let slot = NEXT.fetch_add(1, Ordering::Relaxed);
    let Some(notes) = Notes::new(plan.page, slot) else { return };
    let random = Rng::with_seed(plan.seed ^ (slot + 1) << 56);
    let now = Instant::now().as_nanos();
    let mut draw = Draw { random, known: &KNOWN, priority: plan.priority, now };
    for _ in 0..calls {
        if make_call(&mut draw, &notes).is_err() {
            // It cannot be: the page is this long.
            return;
        }
    }
}

/// One call, noted before and after.
fn make_call(draw: &mut Draw<'_>, notes: &Notes) -> Result<(), Error> {
    let call = draw.call();
    let mut came = call.registers;
    let operation = came.r15;
    let what = note(call.entry, operation);
    fill_buffer(call.buffer.get());
    let mut memory: Elsewhere = Elsewhere::default();
    notes.begin(what)?;
    enter(&mut came, call.entry, call.flags, call.elsewhere.then_some(&mut memory));
    let outcome = outcome(call.entry, &came);
    let code = outcome.err().map_or(0, |error| error as u32);
    notes.end(what, code, promise::keeps(call.entry, operation, outcome))?;
    if outcome.is_ok() {
        draw.learn(&call, operation, &came);
    }
    Ok(())
}

/// A call in a word of 32 bits: which entry, and which operation or vector.
fn note(entry: Entry, operation: u64) -> u64 {
    match entry {
        Entry::Call => 1 << 24,
        Entry::Reply => 2 << 24,
        Entry::Operation => 3 << 24 | operation.min(0xff_ffff),
        Entry::Interrupt(vector) => 4 << 24 | u64::from(vector),
    }
}

/// What came of a call. An interrupt gives nothing, and a reply does not come back.
fn outcome(entry: Entry, came: &Registers) -> Result<(), Error> {
    match entry {
        Entry::Interrupt(_) => Ok(()),
        Entry::Call | Entry::Reply | Entry::Operation => Error::from_code((came.r11 >> 32) as u32),
    }
}

/// The plan, unless another thread is looking at it, or was ended while it did.
fn plan() -> Option<Plan> {
    PLAN.try_lock().and_then(|plan| *plan)
}

/// Where threads begin that random calls have made.
extern "sysv64" fn run_thread() -> ! {
    if let Some(plan) = plan() {
        make_calls(&plan, plan.calls);
    }
    start::exit(0)
}

/// Where calls arrive at endpoints that random calls serve: a few more calls, then some reply.
extern "sysv64" fn run_activation() -> ! {
    if let Some(plan) = plan() {
        make_calls(&plan, CALLS_OF_ACTIVATION);
    }
    let mut reply = Registers::default();
    enter(&mut reply, Entry::Reply, 0x202, None);
    // Nobody is there to reply to. Exit in an activation is a fault, which is as good an end as any.
    let mut end = Registers::default();
    end.r15 = Syscall::Exit as u64;
    enter(&mut end, Entry::Operation, 0x202, None);
    loop {
        core::hint::spin_loop();
    }
}
