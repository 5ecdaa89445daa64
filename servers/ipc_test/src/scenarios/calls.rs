//! When calls are accepted, and when they are refused.

use core::time::Duration;

use libpks::rt::{CapRights, Capability, Client, Endpoint, Error, Instant, Notification};

use super::refused;
use crate::crew::{Helper, PATIENCE, Tools, WHILE, outcome, still_waits};
use crate::errand::{Errand, Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

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

pub(super) fn too_deep(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let endpoint = Endpoint::create()?;
    let next = *endpoint;
    let helper = Helper::serving(tools, endpoint, 10, Some(next))?;
    checks.same(format_args!("calls below the first"), helper.ask(&Request::Descend)?, Reply::Word(7))?;
    checks.same(format_args!("again"), helper.ask(&Request::Descend)?, Reply::Word(7))?;
    Ok("eight calls, the ninth was refused")
}

/// On one CPU: a server that works for an idle caller, somebody between who never rests, and an urgent caller.
pub(super) fn priority(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let [low, middle, high] = [3, 2, 1].map(|less| tools.priority.saturating_sub(less));
    let spawn = |priority, client: Client<Errand>, request: Request| {
        libpks::rt::thread::spawn(crate::crew::STACK, priority, move || {
            libpks::rt::Thread::current()?.bind(Some(0))?;
            client.call(&request).map_err(cause)
        })
    };
    let worker = spawn(low, helper.client(), Request::Wait)?;
    helper.until_here()?;
    let stop = Notification::create()?;
    let (stops, until) = (*stop, Instant::after(PATIENCE));
    let started = Notification::create()?;
    let starts = *started;
    let spinner = libpks::rt::thread::spawn(crate::crew::STACK, middle, move || {
        libpks::rt::Thread::current()?.bind(Some(0))?;
        starts.signal(1)?;
        // Never waits, so nobody less urgent runs on this CPU.
        while stops.poll() == Err(Error::WouldBlock) && Instant::now() < until {}
        Ok::<bool, Error>(Instant::now() < until)
    })?;
    started.wait(Some(until))?;
    let urgent = spawn(high, helper.client(), Request::Badge)?;
    checks.that(still_waits(&urgent), format_args!("a busy server took a second caller"))?;
    helper.release()?;
    checks.same(format_args!("the urgent call"), outcome(&urgent)?, Ok(Reply::Word(0)))?;
    checks.that(Instant::now() < until, format_args!("it had to wait for somebody less urgent"))?;
    stop.signal(1)?;
    checks.same(format_args!("who never rested"), spinner.join(Some(Instant::after(PATIENCE)))?, Ok(true))?;
    checks.same(format_args!("the first call"), outcome(&worker)?, Ok(Reply::Done))?;
    Ok("the server ran at its urgent waiter's priority, past one that never rests")
}
