//! When calls are accepted, and when they are refused.

use core::time::Duration;

use libpks::rt::{CapRights, Capability, Client, Endpoint, Error, Instant, Offer, Thread};

use super::races::other_cpu;
use super::refused;
use crate::crew::{Helper, PATIENCE, Tools, WHILE, outcome, still_waits};
use crate::errand::{Errand, Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

/// Calls in a row.
const AGAIN: u16 = 20;
/// Calls of each of two at one time.
const MANY: u16 = 2000;

pub(super) fn timeout_before_accept(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let busy = helper.occupy()?;
    let begin = Instant::now();
    let late = helper.client().call_until(&Request::Wait, begin + WHILE).map_err(cause);
    refused(checks, "a call to a busy server", late, Error::TimedOut)?;
    checks.that(Instant::now() - begin >= WHILE, format_args!("it gave up early"))?;
    helper.release()?;
    outcome(&busy)??;
    checks.same(format_args!("calls that were served"), helper.ask(&Request::Tally)?, Reply::Words(1, 0))?;
    Ok("30 ms at a busy server")
}

pub(super) fn no_timeout_after_accept(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let begin = Instant::now();
    let nap = Duration::from_millis(100);
    let reply = helper.client().call_until(&Request::Nap(100), begin + WHILE).map_err(cause);
    checks.same(format_args!("an accepted call"), reply, Ok(Reply::Done))?;
    checks.that(Instant::now() - begin >= nap, format_args!("it came back early"))?;
    Ok("a call of 100 ms with a deadline of 30 ms")
}

pub(super) fn queue_passes_revoked_caller(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let busy = helper.occupy()?;
    let minted = helper.endpoint.mint(CapRights::CALL, 9)?.keep();
    let client = Client::<Errand>::new(minted);
    let revoked = tools.thread(move || client.call(&Request::Badge).map_err(cause))?;
    checks.that(still_waits(&revoked), format_args!("a busy server took a second caller"))?;
    let behind = helper.send(Request::Badge)?;
    checks.that(still_waits(&behind), format_args!("a busy server took a third caller"))?;
    minted.delete()?;
    helper.release()?;
    outcome(&busy)??;
    checks.same(format_args!("the caller without"), outcome(&revoked)?, Err(Error::NoSuchCapability))?;
    checks.same(format_args!("the caller behind"), outcome(&behind)?, Ok(Reply::Word(0)))?;
    Ok("the caller behind was served")
}

pub(super) fn thread_of_caller(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let taken = helper.ask(&Request::TakeThread)?;
    checks.same(format_args!("the caller's thread"), taken, Reply::Failed(Error::WrongState))?;
    checks
        .that(libpks::rt::Thread::current().is_ok(), format_args!("a thread at home cannot name itself"))?;
    Ok("the thread stayed with its domain")
}

pub(super) fn would_deadlock(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let endpoint = Endpoint::create()?;
    let next = *endpoint;
    let helper = Helper::serving(tools, endpoint, 1, Some(next))?;
    let forward = Request::Forward { after_wait: false, holding: false, wait: false };
    checks.same(
        format_args!("call to itself"),
        helper.ask(&forward)?,
        Reply::Failed(Error::WouldDeadlock),
    )?;
    checks.same(format_args!("afterwards"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("a server with one activation called itself")
}

pub(super) fn deadlock(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (left, right) = (Endpoint::create()?, Endpoint::create()?);
    let [at_left, at_right] = [*left, *right];
    let left = Helper::serving(tools, left, 1, Some(at_right))?;
    let right = Helper::serving(tools, right, 1, Some(at_left))?;
    let later = Request::Forward { after_wait: true, holding: false, wait: false };
    let first = left.send(later)?;
    left.until_here()?;
    let second = right.send(Request::Forward { after_wait: false, holding: false, wait: false })?;
    checks.that(still_waits(&second), format_args!("a busy server took a call"))?;
    left.release()?;
    checks.same(format_args!("closing the cycle"), outcome(&first)?, Ok(Reply::Failed(Error::Deadlock)))?;
    checks.same(format_args!("the other call"), outcome(&second)?, Ok(Reply::Word(0)))?;
    Ok("two servers called each other")
}

/// Whoever finds the one activation taken, or the lock, goes the kernel's way, which must know of the other's calls.
pub(super) fn from_two_cpus(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let before = tools.calls_served("helper")?;
    let caller = |cpu: u32, badge: u64| -> Run<_> {
        let minted = helper.endpoint.mint(CapRights::CALL, badge)?.keep();
        let client = Client::<Errand>::new(minted);
        Ok(tools.thread(move || -> Result<u16, Error> {
            Thread::current()?.bind(Some(cpu))?;
            let right = |_: &u16| client.call(&Request::Badge) == Ok(Reply::Word(badge));
            let calls = (0..MANY).take_while(right).count();
            minted.delete()?;
            Ok(calls as u16)
        })?)
    };
    let callers = [caller(0, 1)?, caller(other_cpu(tools)?, 2)?];
    for (n, caller) in callers.iter().enumerate() {
        let calls = caller.join(Some(Instant::after(PATIENCE)))?;
        checks.same(format_args!("right replies to caller {n}"), calls, Ok(MANY))?;
    }
    let counted = tools.calls_served("helper")?.wrapping_sub(before);
    checks.same(format_args!("calls that were counted"), counted, 2 * u64::from(MANY))?;
    Ok("2000 calls each")
}

/// The entry code may make all of these but the first by itself, and none of those that must fail.
pub(super) fn remembered(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let mut helper = Helper::new(tools)?;
    let minted = helper.endpoint.mint(CapRights::CALL, 7)?.keep();
    let client = Client::<Errand>::new(minted);
    let call_for = |request: Request, time| client.call_until(&request, Instant::after(time)).map_err(cause);
    let call = |request: Request| call_for(request, PATIENCE);
    let often = |when: &str| -> Run {
        for n in 0..AGAIN {
            checks.same(format_args!("{when}, badge {n}"), call(Request::Badge), Ok(Reply::Word(7)))?;
            let numbers = [n, 1, 2, 3, 4, 5, 6, 7];
            let expected = Ok(Reply::Numbers(numbers.map(|number| number + 1)));
            checks.same(format_args!("{when}, numbers {n}"), call(Request::Add(numbers)), expected)?;
        }
        Ok(())
    };
    let before = tools.calls_served("helper")?;
    often("at first")?;
    let counted = tools.calls_served("helper")?.wrapping_sub(before);
    checks.same(format_args!("calls that were counted"), counted, 2 * u64::from(AGAIN))?;
    let busy = helper.occupy()?;
    refused(checks, "a call to a busy server", call_for(Request::Badge, WHILE), Error::TimedOut)?;
    helper.release()?;
    outcome(&busy)??;
    often("after it was busy")?;
    helper.domain.stop()?;
    refused(checks, "a call to nobody", call_for(Request::Badge, WHILE), Error::TimedOut)?;
    helper.replace()?;
    often("of the next server")?;
    minted.delete()?;
    refused(checks, "a call without a capability", call(Request::Badge), Error::NoSuchCapability)?;
    let minted = helper.endpoint.mint(CapRights::CALL | CapRights::GRANT, 8)?;
    let client = Client::<Errand>::new(*minted);
    for _ in 0..AGAIN {
        checks.same(
            format_args!("by another"),
            client.call(&Request::Badge).map_err(cause),
            Ok(Reply::Word(8)),
        )?;
    }
    helper.ask_with(&Request::Keep, &[Offer::hand_over(minted)])?;
    let handed_over = client.call(&Request::Badge).map_err(cause);
    refused(checks, "a call through what was handed over", handed_over, Error::NoSuchCapability)?;
    Ok("20 times two calls, three times; busy, dead, revoked and handed over")
}

pub(super) fn too_deep(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let endpoint = Endpoint::create()?;
    let next = *endpoint;
    let helper = Helper::serving(tools, endpoint, 10, Some(next))?;
    checks.same(format_args!("calls below the first"), helper.ask(&Request::Descend)?, Reply::Word(7))?;
    checks.same(format_args!("again"), helper.ask(&Request::Descend)?, Reply::Word(7))?;
    Ok("eight calls, the ninth was refused")
}
