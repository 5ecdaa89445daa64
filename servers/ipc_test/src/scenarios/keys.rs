//! Hardware keys: freed, used again, and used up.

use alloc::vec::Vec;

use libpks::abi::fault::FaultKind;
use libpks::rt::{Endpoint, Error, Instant, Key, Notification, Offer, Owned, Region, Thread};

use super::refused;
use crate::crew::{Helper, PATIENCE, Tools, outcome};
use crate::errand::{Reply, Request};
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

pub(super) fn reused(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (key, number) = tools.keys.allocate()?;
    let region = Region::create(8, Some(*key))?;
    let raw = region.unguarded()?;
    let (note, gate) = (Notification::create()?, Notification::create()?);
    let (signals, waits, held) = (*note, *gate, *region);
    let reader = tools.thread(move || {
        Thread::current()?.on_fault(signals, 2)?;
        let _held = held.open_write()?;
        raw.write_u64(0, 1)?;
        signals.signal(1)?;
        waits.wait(None)?;
        raw.read_u64(0)
    })?;
    checks.same(format_args!("opened"), note.wait(Some(Instant::after(PATIENCE)))?, 1)?;
    drop(region);
    drop(key);
    // The pool does not give back at once what it got last.
    let mut keys = Vec::new();
    let key = loop {
        match tools.keys.allocate()? {
            (key, again) if again == number => break key,
            (key, _) => keys.push(key),
        }
    };
    let region = Region::create(8, Some(*key))?;
    checks.same(format_args!("the same address"), region.info()?.address, raw.address())?;
    gate.signal(1)?;
    checks.same(format_args!("a fault"), note.wait(Some(Instant::after(PATIENCE)))?, 2)?;
    let fault = reader.thread().fault()?;
    checks.same(format_args!("kind"), (fault.kind, fault.key), (FaultKind::ProtectionKey, Some(number)))?;
    reader.thread().kill()?;
    Ok("the old opening opened nothing of the new region")
}

/// Takes all keys out of the pool.
fn take_all(tools: &Tools) -> (Vec<Owned<Key>>, Error) {
    let mut keys = Vec::new();
    loop {
        match tools.keys.allocate() {
            Ok((key, _)) => keys.push(key),
            Err(error) => return (keys, error),
        }
    }
}

pub(super) fn exhausted(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let tools = &tools.here();
    let helper = Helper::new(tools)?;
    let region = Region::create(8, None)?;
    let (keys, error) = take_all(tools);
    checks.same(format_args!("no key is left"), error, Error::KeysExhausted)?;
    let before = tools.used_bytes()?;
    refused(checks, "a domain", tools.start("role=none", &[]).map(drop), Error::KeysExhausted)?;
    let lent = helper.ask_with(&Request::Read, &[Offer::lend(*region)]);
    refused(checks, "a loan", lent, Error::KeysExhausted)?;
    checks.that(Region::create(8, None).is_ok(), format_args!("a private region needs a key"))?;
    let used = tools.used_bytes()?;
    checks.that((used - before).is_multiple_of(4096), format_args!("{before} bytes before, {used} after"))?;
    let taken = keys.len();
    drop(keys);
    let lent = helper.ask_with(&Request::Read, &[Offer::lend(*region)]);
    checks.same(format_args!("a loan afterwards"), lent, Ok(Reply::Word(0)))?;
    checks.that(Helper::new(tools).is_ok(), format_args!("no domain afterwards"))?;
    checks.same(format_args!("keys"), take_all(tools).0.len(), taken)?;
    Ok("domain and loan were refused, and done later")
}

pub(super) fn handed_over(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let tools = &tools.here();
    let (helper, region) = (Helper::new(tools)?, Region::create(8, None)?);
    region.open_write()?.write_u64(0, 5)?;
    let (keys, error) = take_all(tools);
    checks.same(format_args!("no key is left"), error, Error::KeysExhausted)?;
    let shared = helper.ask_with(&Request::Read, &[Offer::lend(*region)]);
    refused(checks, "a loan, which would need one", shared, Error::KeysExhausted)?;
    // From one that has it to another that has it: under the key of the one, then of the other.
    let given = helper.ask_with(&Request::Keep, &[Offer::hand_over(region)]);
    checks.same(format_args!("handed over"), given, Ok(Reply::Done))?;
    checks.same(format_args!("its receiver"), helper.ask(&Request::Read), Ok(Reply::Word(5)))?;
    helper.expect(&Request::Write(6), &Reply::Done)?;
    let (reply, received) = helper.trade(&Request::GiveBack, &[])?;
    checks.same(format_args!("reply"), reply, Reply::Done)?;
    let back = received.into_iter().next().ok_or(Error::NotFound)?.into_kind::<Region>()?;
    checks.same(format_args!("what came back"), back.open_read()?.read_u64(0)?, 6)?;
    drop(keys);
    Ok("a region went and came back while no key was free")
}

pub(super) fn closed_for_want(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let tools = &tools.here();
    let helper = Helper::serving(tools, Endpoint::create()?, 2, None)?;
    let (region, sibling) = (Region::create(8, None)?, Region::create(8, None)?);
    region.open_write()?.write_u64(0, 5)?;
    helper.ask_with(&Request::Keep, &[Offer::copy(*region).read_only()])?;
    // Two regions with the same holders share a key, so when one of them changes its holders it needs another.
    let first = helper.send_with(Request::ReadLater { openings: 1 }, [Offer::lend(*region)])?;
    helper.until_here()?;
    // At the gate whoever is more urgent goes first, and that changes with the budget.
    let gate = Notification::create()?;
    let second = helper.send_with(Request::ReadAfter, [Offer::lend(*sibling), Offer::copy(*gate)])?;
    helper.until_here()?;
    checks.same(format_args!("the sibling's key"), sibling.info()?.key, region.info()?.key)?;
    let guard = region.open_read()?;
    let (mut keys, _) = take_all(tools);
    // The loan ends, the helper keeps a capability to read: other holders than the sibling's, and no key for them.
    helper.release()?;
    checks.same(format_args!("the loan's call"), outcome(&first)?, Ok(Reply::Word(5)))?;
    refused(checks, "the holder's own", region.open_write().map(drop), Error::KeysExhausted)?;
    let read = || helper.ask(&Request::Read);
    checks.same(format_args!("the helper's"), read()?, Reply::Failed(Error::KeysExhausted))?;
    keys.pop();
    checks.same(format_args!("the helper's, later"), read()?, Reply::Word(5))?;
    checks.same(format_args!("an opening from before"), guard.read_u64(0)?, 5)?;
    region.open_write()?.write_u64(0, 6)?;
    checks.same(format_args!("what was written"), read()?, Reply::Word(6))?;
    let written = helper.ask(&Request::Write(7))?;
    checks.same(
        format_args!("the helper's right to write"),
        written,
        Reply::Failed(Error::RightsExceeded),
    )?;
    gate.signal(1)?;
    checks.same(format_args!("the sibling's call"), outcome(&second)?, Ok(Reply::Word(0)))?;
    Ok("closed while no key was free, open again after")
}
