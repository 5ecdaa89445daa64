//! Threads, notifications, memory, and what they cost.

use alloc::vec::Vec;
use core::time::Duration;

use libpks::rt::region::Access;
use libpks::rt::thread::spawn;
use libpks::rt::{CapRights, Capability, Endpoint, Error, Instant, Notification, Offer, Owned, Region, time};

use super::refused;
use crate::crew::{Helper, Means, PATIENCE, STACK, Tools, WHILE};
use crate::errand::Request;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

const PIECE: u64 = 256 << 10;

/// Regions until no more are to be had, and why.
fn fill() -> (Vec<Owned<Region>>, Error) {
    let mut regions = Vec::with_capacity(256);
    loop {
        match Region::create(PIECE, None) {
            Ok(region) => regions.push(region),
            Err(error) => return (regions, error),
        }
    }
}

pub(super) fn quota(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let before = tools.used_bytes()?;
    let mut counts = [0; 3];
    for count in &mut counts {
        let (regions, error) = fill();
        checks.same(format_args!("the end of the quota"), error, Error::QuotaExceeded)?;
        *count = regions.len();
    }
    checks.that(
        counts.iter().all(|&count| count >= 4 && Some(&count) == counts.first()),
        format_args!("{counts:?}"),
    )?;
    let used = |what: &str| {
        let now = tools.used_bytes()?;
        // The list of regions is of this domain's heap.
        checks.that(
            (now - before).is_multiple_of(4096),
            format_args!("{what}: {before} bytes before, {now} after"),
        )
    };
    used("regions")?;
    for _ in 0..300 {
        let note = Notification::create()?;
        let endpoint = Endpoint::create()?;
        let copy = note.mint(CapRights::SIGNAL, 0)?;
        drop((note, endpoint, copy));
    }
    used("notifications and endpoints")?;
    // What cannot be had costs nothing.
    let endpoint = Endpoint::create()?;
    for _ in 0..3 {
        let serve = libpks::rt::serve::start_shared(*endpoint, Idle, 64, 200 << 10);
        refused(checks, "64 large stacks", serve, Error::QuotaExceeded)?;
    }
    drop(endpoint);
    used("activations")?;
    Ok("regions, notifications, endpoints, activations")
}

/// A server that is never called.
struct Idle;

impl libpks::rt::SharedServer for Idle {
    type Protocol = crate::errand::Errand;

    fn handle(&self, _caller: &mut libpks::rt::Caller, _request: Request) -> crate::errand::Reply {
        crate::errand::Reply::Done
    }
}

pub(super) fn openings(_tools: &Tools, checks: &Checks) -> Run<Seen> {
    let region = Region::create(8, None)?;
    let mut guards = Vec::new();
    let error = loop {
        match region.open_write() {
            Ok(guard) if guards.len() < 10_000 => guards.push(guard),
            Ok(_) => return Err(Stop::failed(format_args!("no limit"))),
            Err(error) => break error,
        }
    };
    checks.same(format_args!("openings"), (guards.len(), error), (256, Error::LimitReached))?;
    guards.truncate(1);
    for guard in &guards {
        guard.write_u64(0, 3)?;
    }
    checks.same(format_args!("word"), region.open_read()?.read_u64(0)?, 3)?;
    drop(guards);
    checks.that(region.open_write().is_ok(), format_args!("it cannot be opened again"))?;
    // What is open for all threads goes with its region, so it never fills the room for others.
    for _ in 0..300 {
        Region::create(8, None)?.open_global(Access::ReadOnly)?;
    }
    Ok("256 openings")
}

pub(super) fn threads(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let until = || Some(Instant::after(PATIENCE));
    let worker = spawn(STACK, tools.priority, || 42)?;
    checks.same(format_args!("a value"), worker.join(until())?, 42)?;
    let exits = spawn(STACK, tools.priority, || libpks::rt::start::exit(-7))?;
    checks.same(format_args!("a code"), exits.thread().join(until())?, -7)?;
    let sleeper = spawn(STACK, tools.priority, || time::sleep(PATIENCE))?;
    refused(checks, "no end yet", sleeper.thread().join(Some(Instant::after(WHILE))), Error::TimedOut)?;
    sleeper.thread().kill()?;
    refused(checks, "killed", sleeper.thread().join(until()), Error::Gone)?;
    // One that runs, maybe on another CPU, with somebody who waits for its end.
    let spinner = spawn(STACK, tools.priority.saturating_sub(1), || {
        loop {
            core::hint::spin_loop();
        }
    })?;
    let spins = spinner.thread();
    let joiner = spawn(STACK, tools.priority, move || spins.join(None))?;
    time::sleep(WHILE)?;
    spins.kill()?;
    checks.same(format_args!("who waited"), joiner.join(until())?, Err(Error::Gone))?;
    spins.kill()?;
    refused(checks, "itself", own_join(), Error::WouldDeadlock)?;
    let urgent = spawn(STACK, tools.priority.saturating_add(1), || ());
    refused(checks, "more urgent than the domain", urgent.map(drop), Error::InvalidArgument)?;
    Ok("ended, joined, killed")
}

fn own_join() -> Result<i32, Error> {
    libpks::rt::Thread::current()?.join(None)
}

pub(super) fn notifications(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let note = Notification::create()?;
    refused(checks, "no bits", note.poll(), Error::WouldBlock)?;
    let begin = Instant::now();
    refused(checks, "no bits in time", note.wait(Some(begin + WHILE)), Error::TimedOut)?;
    checks.that(Instant::now() - begin >= WHILE, format_args!("it gave up early"))?;
    note.signal(0b101)?;
    note.signal(0b010)?;
    checks.same(format_args!("bits add up"), note.wait(None)?, 0b111)?;
    refused(checks, "they are taken", note.poll(), Error::WouldBlock)?;
    let masked = note.mint(CapRights::SIGNAL, 0b110)?;
    masked.signal(u64::MAX)?;
    checks.same(format_args!("masked bits"), note.poll()?, 0b110)?;
    masked.signal(1)?;
    refused(checks, "bits outside of the mask", note.poll(), Error::WouldBlock)?;
    refused(checks, "waiting without the right", masked.wait(None), Error::MissingRights)?;
    let waits = *note;
    let waiter = spawn(STACK, tools.priority, move || waits.wait(None))?;
    time::sleep(Duration::from_millis(5))?;
    note.signal(8)?;
    checks.same(format_args!("who waited"), waiter.join(Some(Instant::after(PATIENCE)))?, Ok(8))?;
    let waiter = spawn(STACK, tools.priority, move || waits.wait(None))?;
    time::sleep(Duration::from_millis(5))?;
    drop(note);
    drop(masked);
    let gone = waiter.join(Some(Instant::after(PATIENCE)))?;
    // It may have come too late to wait.
    checks.that(
        matches!(gone, Err(Error::Gone | Error::NoSuchCapability)),
        format_args!("a notification that went gave {gone:?}"),
    )?;
    Ok("bits, masks, deadlines, the end")
}

pub(super) fn scrubbed(tools: &Tools, checks: &Checks) -> Run<Seen> {
    const WORDS: u64 = (64 << 10) / 8;
    for round in 0..3 {
        let helper = Helper::new(tools)?;
        let region = Region::create(WORDS * 8, None)?;
        {
            let guard = region.open_write()?;
            (0..WORDS).try_for_each(|n| guard.write_u64(n * 8, 0x5ec2_e7ed_5ec2_e7ed))?;
        }
        helper.ask_with(&Request::Keep, &[Offer::hand_over(region)])?;
        // The region goes with the domain, and so does the domain's own memory.
        drop(helper);
        let mut secrets = 0;
        let (regions, _) = fill();
        for region in &regions {
            let guard = region.open_read()?;
            for n in 0..PIECE / 8 {
                secrets += u32::from(guard.read_u64(n * 8)? != 0);
            }
        }
        checks.same(format_args!("round {round}: words that are not zero"), secrets, 0)?;
    }
    Ok("all memory that could be had was zero")
}

/// A domain goes when it has just been told of: what comes behind it is told of all the same.
pub(super) fn domains_told(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let mut made = [
        ("first", tools.make_with(Means { name: "first", ..tools.means() }, "", &[])?),
        ("second", tools.make_with(Means { name: "second", ..tools.means() }, "", &[])?),
    ]
    .map(|(name, domain)| (name, Some(domain)));
    let ids = || tools.inspect.domains().map(|domain| Ok(domain?.id)).collect::<Result<Vec<u32>, Error>>();
    let before = ids()?;
    let mut told = Vec::new();
    for domain in tools.inspect.domains() {
        let domain = domain?;
        told.push(domain.id);
        // Each goes at once, so the list gets shorter under whoever reads it.
        for (_, made) in made.iter_mut().filter(|(name, _)| domain.name == *name) {
            *made = None;
        }
    }
    checks.same(format_args!("who was told of"), &told, &before)?;
    checks.that(made.iter().all(|(_, made)| made.is_none()), format_args!("one was not told of by name"))?;
    checks.same(format_args!("domains fewer"), before.len() - ids()?.len(), 2)?;
    checks.that(told.is_sorted(), format_args!("not by their numbers: {told:?}"))?;
    Ok("two domains went while the list was read")
}
