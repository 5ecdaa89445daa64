//! Loans: each ends with its call, however that ends, and all that came of it.

use libpks::abi::inspect::DomainState;
use libpks::rt::{Capability, Endpoint, Error, Instant, Notification, Offer, Region};

use super::refused;
use super::transfers::failed;
use crate::crew::{Helper, Tools, WHILE, end_of, outcome, sooner, still_waits};
use crate::errand::{Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

const READ_LATER: Request = Request::ReadLater { openings: 2 };

fn region(value: u64) -> Run<libpks::rt::Owned<Region>> {
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, value)?;
    Ok(region)
}

/// Nobody but this domain holds the region: its key is that of the domain's own memory.
fn is_private(tools: &Tools, checks: &Checks, when: &str, region: Region) -> Run {
    let own = tools.running("ipc_test")?.key;
    checks.same(format_args!("the region's key {when}"), Some(region.info()?.key), own)
}

/// A helper ended because it read a region that it has no more.
fn ended_by_read(tools: &Tools, checks: &Checks, helper: &Helper, region: Region) -> Run {
    let (state, fault) = end_of(*helper.domain)?;
    checks.same(format_args!("end of the borrower"), state, DomainState::Faulted)?;
    let Some(fault) = fault else { return Err(Stop::failed(format_args!("there is no report"))) };
    let expected = (tools.wall(fault.domain)?, region.info()?.address);
    checks.same(format_args!("fault of the borrower"), (fault.kind, fault.address), expected)
}

pub(super) fn timeout(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (helper, region) = (Helper::new(tools)?, region(5)?);
    let busy = helper.occupy()?;
    let held = tools.running("helper")?.capabilities;
    let (client, lent) = (helper.client(), *region);
    let late = tools.thread(move || {
        let until = Some(Instant::after(WHILE * 16));
        client.exchange(&Request::Keep, &[Offer::lend(lent)], until).map(|(reply, _)| reply).map_err(cause)
    })?;
    checks.that(still_waits(&late), format_args!("a busy server took a second caller"))?;
    is_private(tools, checks, "while the call waits", *region)?;
    checks.same(format_args!("the helper's while it waits"), tools.running("helper")?.capabilities, held)?;
    checks.same(format_args!("the call"), outcome(&late)?, Err(Error::TimedOut))?;
    is_private(tools, checks, "after", *region)?;
    helper.release()?;
    outcome(&busy)??;
    checks.same(format_args!("the helper's after"), tools.running("helper")?.capabilities, held)?;
    checks.same(format_args!("calls that were served"), helper.ask(&Request::Tally)?, Reply::Words(1, 0))?;
    Ok("a call that was not accepted in time lent nothing")
}

pub(super) fn death(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (mut helper, region) = (Helper::new(tools)?, region(5)?);
    let pending = helper.send_with(READ_LATER, [Offer::lend(*region)])?;
    helper.until_here()?;
    helper.domain.stop()?;
    checks.same(format_args!("the call"), outcome(&pending)?, Err(Error::PeerDiedMidCall))?;
    is_private(tools, checks, "after the death", *region)?;
    // Its successor may have its number, and has nothing of what it had.
    helper.replace()?;
    checks.same(format_args!("the successor"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    is_private(tools, checks, "with a successor", *region)?;
    let again = helper.ask_with(&Request::Read, &[Offer::lend(*region)])?;
    checks.same(format_args!("another loan"), again, Reply::Word(5))?;
    Ok("what a dead server had borrowed came back")
}

pub(super) fn lent_on(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (last, region) = (Helper::new(tools)?, region(5)?);
    let between = Helper::serving(tools, Endpoint::create()?, 1, Some(*last.endpoint))?;
    let pending = between.send_with(Request::LendOn, [Offer::lend(*region)])?;
    last.until_here()?;
    between.until_here()?;
    // The one that borrowed it drops it and replies, while the one that it has lent it on to has it open.
    between.release()?;
    checks.same(format_args!("the call"), outcome(&pending)?, Ok(Reply::Done))?;
    is_private(tools, checks, "after the call", *region)?;
    last.release()?;
    ended_by_read(tools, checks, &last, *region)?;
    checks.same(format_args!("the borrower"), between.ask(&Request::Badge)?, Reply::Word(0))?;
    checks.same(format_args!("the lender's own"), region.open_read()?.read_u64(0)?, 5)?;
    Ok("it was lent on and dropped, and came back all the same")
}

pub(super) fn revoked(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (helper, region) = (Helper::new(tools)?, region(5)?);
    let rights = region.identify()?.rights;
    // One that does not touch it any more does not notice.
    let minted = region.mint(rights, 0)?.keep();
    let pending = helper.send_with(Request::Wait, [Offer::lend(minted)])?;
    helper.until_here()?;
    region.revoke()?;
    refused(checks, "what was lent", minted.identify(), Error::NoSuchCapability)?;
    is_private(tools, checks, "when the revoke returned", *region)?;
    helper.release()?;
    checks.same(format_args!("a call that does not use it"), outcome(&pending)?, Ok(Reply::Done))?;
    // One that does is ended by it.
    let minted = region.mint(rights, 0)?.keep();
    let pending = helper.send_with(READ_LATER, [Offer::lend(minted)])?;
    helper.until_here()?;
    region.revoke()?;
    helper.release()?;
    checks.same(format_args!("a call that uses it"), outcome(&pending)?, Err(Error::PeerDiedMidCall))?;
    ended_by_read(tools, checks, &helper, *region)?;
    checks.same(format_args!("the lender's own"), region.open_read()?.read_u64(0)?, 5)?;
    Ok("what was lent was revoked in the middle of the call")
}

pub(super) fn twice(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::serving(tools, Endpoint::create()?, 3, None)?;
    let region = region(5)?;
    let first = helper.send_with(READ_LATER, [Offer::lend(*region)])?;
    helper.until_here()?;
    let both = [Offer::lend(*region), Offer::lend(*region).read_only()];
    checks.same(
        format_args!("twice in a message"),
        helper.ask_with(&Request::Write(6), &both)?,
        Reply::Done,
    )?;
    let second = helper.send_with(READ_LATER, [Offer::lend(*region)])?;
    helper.until_here()?;
    helper.release()?;
    let [ended, other] = sooner([&first, &second])?;
    checks.same(format_args!("the loan that ended first"), outcome(ended)?, Ok(Reply::Word(6)))?;
    checks.that(still_waits(other), format_args!("the other call has ended too"))?;
    helper.release()?;
    checks.same(format_args!("the other loan"), outcome(other)?, Ok(Reply::Word(6)))?;
    is_private(tools, checks, "after both", *region)?;
    Ok("two loans of a region, one of which outlived the other")
}

pub(super) fn objects(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::serving(tools, Endpoint::create()?, 2, None)?;
    let other = Helper::new(tools)?;
    let note = Notification::create()?;
    let lent = |request: &Request, offer: Offer| helper.ask_with(request, &[offer]).and_then(failed);
    checks.same(format_args!("signal"), lent(&Request::Signal(8), Offer::lend(*note))?, Reply::Done)?;
    checks.same(format_args!("bits"), note.poll()?, 8)?;
    checks.same(
        format_args!("call"),
        lent(&Request::CallFirst, Offer::lend(*other.endpoint))?,
        Reply::Word(0),
    )?;
    let back = lent(&Request::MoveBack, Offer::lend(*note));
    refused(checks, "handing over what was lent", back, Error::MissingRights)?;
    checks.that(note.identify().is_ok(), format_args!("the lender has lost it"))?;
    checks.same(format_args!("keep"), lent(&Request::Keep, Offer::lend(*note))?, Reply::Done)?;
    checks.that(tools.running("helper").is_ok(), format_args!("the borrower has ended"))?;
    refused(
        checks,
        "handing over what was kept",
        helper.ask(&Request::GiveBack).and_then(failed),
        Error::NoSuchCapability,
    )?;
    // Moved while it is lent: whoever gets it gets it with the loan below it.
    let region = region(5)?;
    let pending = helper.send_with(READ_LATER, [Offer::lend(*region)])?;
    helper.until_here()?;
    other.ask_with(&Request::Keep, &[Offer::hand_over(region)])?;
    checks.same(format_args!("its new holder"), other.ask(&Request::Read)?, Reply::Word(5))?;
    helper.release()?;
    checks.same(format_args!("its borrower"), outcome(&pending)?, Ok(Reply::Word(5)))?;
    let (reply, received) = other.trade(&Request::GiveBack, &[])?;
    checks.same(format_args!("reply"), reply, Reply::Done)?;
    let Some(back) = received.into_iter().next() else {
        return Err(Stop::failed(format_args!("it did not come back")));
    };
    let back = back.into_kind::<Region>()?;
    is_private(tools, checks, "when it came back", *back)?;
    Ok("a notification, an endpoint, and a region that was handed over meanwhile")
}
