//! What is taken back is gone when the operation returns, wherever who had it is.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use libpks::abi::fault::FaultAccess;
use libpks::abi::inspect::DomainState;
use libpks::rt::{
    CapRights, Capability, Domain, Endpoint, Error, Instant, Key, Notification, Offer, Owned, Region, time,
};

use super::refused;
use crate::crew::{Helper, PATIENCE, Tools, WHILE, end_of, grant, outcome};
use crate::errand::{Reply, Request};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

const READ: CapRights = CapRights::READ.union(CapRights::GRANT);

/// A region whose first word is 5. Its own key stays with it, so that a revoke changes rights words and nothing else; what
/// has no key of its own gets another with its other holders.
fn region(key: Option<Key>) -> Result<Owned<Region>, Error> {
    let region = Region::create(8, key)?;
    region.open_write()?.write_u64(0, 5)?;
    Ok(region)
}

/// The domain ended because it read the region.
fn ended_by_read(tools: &Tools, checks: &Checks, domain: Domain, region: Region) -> Run {
    let (state, fault) = end_of(domain)?;
    checks.same(format_args!("end"), state, DomainState::Faulted)?;
    let Some(fault) = fault else { return Err(Stop::failed(format_args!("there is no report"))) };
    let seen = (fault.kind, fault.access, fault.address);
    let expected = (tools.wall(fault.domain)?, FaultAccess::Read, region.info()?.address);
    checks.same(format_args!("fault"), seen, expected)
}

pub(super) fn running(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (beat, region) = (Region::create(8, None)?, region(None)?);
    let cpu = tools.cpus()?.saturating_sub(1);
    let rights = CapRights::READ | CapRights::WRITE;
    let grants = [grant("beat", *beat, rights), grant("region", *region, READ)];
    let beats = beat.open_read()?;
    let helper = tools.start(&alloc::format!("role=beater cpu={cpu}"), &grants)?;
    let until = Instant::after(PATIENCE);
    while beats.read_u64(0)? < 1000 {
        if Instant::now() > until {
            return Err(Stop::failed(format_args!("no beat: {:?}", helper.status()?)));
        }
        time::sleep(core::time::Duration::from_millis(1))?;
    }
    let before = beats.read_u64(0)?;
    region.revoke()?;
    let at_return = beats.read_u64(0)?;
    time::sleep(WHILE)?;
    let after = beats.read_u64(0)?;
    checks.that(before >= 1000, format_args!("only {before} beats before"))?;
    // One count may follow the last read that went well.
    checks.that(
        after <= at_return + 1,
        format_args!("{at_return} beats when it returned, {after} afterwards"),
    )?;
    ended_by_read(tools, checks, *helper, *region)?;
    checks.same(format_args!("the holder's own"), region.open_read()?.read_u64(0)?, 5)?;
    Ok("a running thread lost it at once")
}

pub(super) fn parked(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (key, _) = tools.keys.allocate()?;
    wakes_without(tools, checks, 1, None)?;
    wakes_without(tools, checks, 1, Some(*key))?;
    Ok("a parked thread woke without it")
}

pub(super) fn guard_drop(tools: &Tools, checks: &Checks) -> Run<Seen> {
    wakes_without(tools, checks, 3, None)?;
    Ok("two of three openings were closed after the revoke")
}

/// A thread that has opened a region so often waits, and reads when it is gone.
fn wakes_without(tools: &Tools, checks: &Checks, openings: u8, key: Option<Key>) -> Run {
    let (helper, region) = (Helper::new(tools)?, region(key)?);
    helper.ask_with(&Request::Keep, &[Offer::copy(*region).read_only()])?;
    let pending = helper.send(Request::ReadLater { openings })?;
    helper.until_here()?;
    region.revoke()?;
    helper.release()?;
    checks.same(format_args!("the call"), outcome(&pending)?, Err(Error::PeerDiedMidCall))?;
    ended_by_read(tools, checks, *helper.domain, *region)?;
    checks.same(format_args!("the holder's own"), region.open_read()?.read_u64(0)?, 5)
}

pub(super) fn chain(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (key, _) = tools.keys.allocate()?;
    chain_under(tools, checks, None)?;
    chain_under(tools, checks, Some(*key))?;
    Ok("an activation in the middle of a chain lost it")
}

fn chain_under(tools: &Tools, checks: &Checks, key: Option<Key>) -> Run {
    let last = Helper::new(tools)?;
    let between = Helper::serving(tools, Endpoint::create()?, 1, Some(*last.endpoint))?;
    let region = region(key)?;
    between.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
    let pending = between.send(Request::Forward { after_wait: false, holding: true, wait: true })?;
    last.until_here()?;
    region.revoke()?;
    last.release()?;
    checks.same(format_args!("the call"), outcome(&pending)?, Err(Error::PeerDiedMidCall))?;
    ended_by_read(tools, checks, *between.domain, *region)?;
    checks.same(format_args!("the last server"), last.ask(&Request::Tally)?, Reply::Words(1, 0))
}

/// Every loan gives the region other holders, so another key, and every return gives the old one back.
pub(super) fn rekey(tools: &Tools, checks: &Checks) -> Run<Seen> {
    const LOANS: u64 = 50;
    // Many pages, so that the change takes its time, and the reader meets pages that its TLB does not hold.
    const PAGES: u64 = 1024;
    let (helper, region) = (Helper::new(tools)?, Region::create(PAGES * 4096, None)?);
    let faults = Notification::create()?;
    let hears = *faults;
    let (started, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counts, stops, opened) = (Arc::clone(&started), Arc::clone(&stop), *region);
    let cpu = tools.cpus()?.saturating_sub(1);
    let reader = tools.thread(move || {
        let thread = libpks::rt::Thread::current()?;
        thread.bind(Some(cpu))?;
        thread.on_fault(hears, 1)?;
        let guard = opened.open_write()?;
        while stops.load(Ordering::Acquire) == 0 {
            for page in 0..PAGES {
                guard.write_u64(page * 4096, guard.read_u64(page * 4096)? + 1)?;
            }
            counts.fetch_add(1, Ordering::Release);
        }
        guard.read_u64(0)
    })?;
    let until = Instant::after(PATIENCE);
    while started.load(Ordering::Acquire) == 0 && Instant::now() < until {
        time::sleep(core::time::Duration::from_millis(1))?;
    }
    let at_start = started.load(Ordering::Acquire);
    let before = region.info()?.key;
    let mut keys = 0;
    for _ in 0..LOANS {
        helper.ask_with(&Request::Badge, &[Offer::lend(*region)])?;
        keys += u64::from(region.info()?.key == before);
    }
    checks.same(format_args!("loans that returned"), keys, LOANS)?;
    refused(checks, "faults", faults.wait(Some(Instant::after(WHILE))), Error::TimedOut)?;
    let during = started.load(Ordering::Acquire);
    checks.that(at_start > 0 && during > at_start, format_args!("nobody accessed it meanwhile"))?;
    stop.store(1, Ordering::Release);
    let rounds = reader.join(Some(Instant::after(PATIENCE)))??;
    checks.same(format_args!("rounds"), rounds, started.load(Ordering::Acquire))?;
    Ok("50 loans of 1024 pages under a running thread")
}

pub(super) fn many(_tools: &Tools, checks: &Checks) -> Run<Seen> {
    let note = Notification::create()?;
    let first = note.mint(CapRights::SIGNAL | CapRights::GRANT, 0)?;
    let mut minted = alloc::vec::Vec::new();
    for n in 0..100_u64 {
        let from = minted.last().copied().filter(|_| n % 3 != 0).unwrap_or(*first);
        minted.push(from.mint(CapRights::SIGNAL | CapRights::GRANT, 0)?.keep());
    }
    first.revoke()?;
    let left = minted.iter().filter(|note| note.identify().is_ok()).count();
    checks.same(format_args!("left of 100"), left, 0)?;
    checks.that(first.identify().is_ok(), format_args!("what was revoked from has gone"))?;
    note.revoke()?;
    refused(checks, "the first", first.identify(), Error::NoSuchCapability)?;
    Ok("a hundred derived capabilities in one revoke")
}

pub(super) fn waiter(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let pending = helper.occupy()?;
    // It has said that it is about to wait.
    time::sleep(WHILE)?;
    helper.gate.revoke()?;
    checks.same(format_args!("the wait"), outcome(&pending)?, Ok(Reply::Failed(Error::Gone)))?;
    let again = helper.send(Request::Wait)?;
    let seen = outcome(&again)?;
    checks.same(format_args!("the next"), seen, Ok(Reply::Failed(Error::NoSuchCapability)))?;
    Ok("a waiting thread was sent away")
}
