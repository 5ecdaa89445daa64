//! Who dies in a call, and what the others see of it.

use libpks::abi::fault::FaultKind;
use libpks::abi::inspect::DomainState;
use libpks::rt::{
    CapRights, Capability, Client, Endpoint, Error, Instant, Notification, Offer, Region, Thread,
};

use super::refused;
use crate::crew::{Helper, PATIENCE, STACK, Tools, end_of, grant, outcome, still_waits};
use crate::errand::{Errand, Reply, Request};
use crate::helper::{LENT, cause};
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

pub(super) fn callee(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let busy = helper.occupy()?;
    helper.domain.stop()?;
    checks.same(format_args!("stopped"), outcome(&busy)?, Err(Error::PeerDiedMidCall))?;
    let helper = Helper::new(tools)?;
    refused(checks, "panicked", helper.ask(&Request::Panic), Error::PeerDiedMidCall)?;
    let (state, fault) = end_of(*helper.domain)?;
    let kind = fault.map(|fault| fault.kind);
    checks.same(format_args!("end"), (state, kind), (DomainState::Faulted, Some(FaultKind::Panic)))?;
    Ok("a server was stopped, another panicked")
}

pub(super) fn queued_callers_stay(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let mut helper = Helper::new(tools)?;
    // Threads with lower and with higher numbers than the one that is inside.
    let early = Notification::create()?;
    let (starts, client) = (*early, helper.client());
    let first = tools.thread(move || {
        starts.wait(None)?;
        client.call(&Request::Badge).map_err(cause)
    })?;
    let busy = helper.occupy()?;
    early.signal(1)?;
    let second = helper.send(Request::Badge)?;
    for (n, queued) in [&first, &second].into_iter().enumerate() {
        checks.that(still_waits(queued), format_args!("caller {n} does not wait"))?;
    }
    helper.domain.stop()?;
    checks.same(format_args!("who was inside"), outcome(&busy)?, Err(Error::PeerDiedMidCall))?;
    for (n, queued) in [&first, &second].into_iter().enumerate() {
        checks.that(still_waits(queued), format_args!("caller {n} waits no more without a server"))?;
    }
    helper.replace()?;
    for (n, queued) in [&first, &second].into_iter().enumerate() {
        checks.same(format_args!("caller {n}, by the successor"), outcome(queued)?, Ok(Reply::Word(0)))?;
    }
    Ok("two waiting callers were served by the next domain")
}

pub(super) fn restart(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let mut helper = Helper::new(tools)?;
    let client = Client::<Errand>::new(helper.endpoint.mint(CapRights::CALL, 6)?.keep());
    for round in 0..4 {
        let seen = client.call(&Request::Badge).map_err(cause)?;
        checks.same(format_args!("round {round}"), seen, Reply::Word(6))?;
        helper.domain.stop()?;
        helper.replace()?;
    }
    client.endpoint().delete()?;
    Ok("one capability, five servers")
}

pub(super) fn middle(tools: &Tools, checks: &Checks) -> Run<Seen> {
    for (round, holding) in [false, true].into_iter().enumerate() {
        let last = Helper::new(tools)?;
        let next = *last.endpoint;
        let between = Helper::serving(tools, Endpoint::create()?, 1, Some(next))?;
        let region = Region::create(8, None)?;
        between.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
        let first = between.send(Request::Forward { after_wait: false, holding, wait: true })?;
        last.until_here()?;
        between.domain.stop()?;
        let seen = outcome(&first)?;
        checks.same(format_args!("round {round}: the caller"), seen, Err(Error::PeerDiedMidCall))?;
        let tally =
            last.client().call_until(&Request::Tally, Instant::after(crate::crew::WHILE)).map_err(cause);
        refused(checks, "the last is still busy", tally, Error::TimedOut)?;
        last.release()?;
        let tally = last.ask(&Request::Tally)?;
        checks.same(
            format_args!("round {round}: calls that came to their end"),
            tally,
            Reply::Words(1, 0),
        )?;
        checks.same(
            format_args!("round {round}: the last answers"),
            last.ask(&Request::Badge)?,
            Reply::Word(0),
        )?;
    }
    Ok("the last server went on undisturbed")
}

pub(super) fn orphan(tools: &Tools, checks: &Checks) -> Run<Seen> {
    // The calls of one whose domain ended further down, and those of one whose own domain ended: nobody holds them.
    let last = Helper::new(tools)?;
    let between = Helper::serving(tools, Endpoint::create()?, 1, Some(*last.endpoint))?;
    let first = between.send(Request::Forward { after_wait: false, holding: false, wait: true })?;
    last.until_here()?;
    between.domain.stop()?;
    checks.same(format_args!("the caller"), outcome(&first)?, Err(Error::PeerDiedMidCall))?;
    drop(between);
    last.domain.stop()?;
    checks.same(format_args!("the last server's end"), last.domain.status()?.state, DomainState::Stopped)?;
    let helper = Helper::new(tools)?;
    let caller = tools.start("role=caller", &[grant("next", *helper.endpoint, CapRights::CALL)])?;
    helper.until_here()?;
    caller.stop()?;
    drop(caller);
    helper.domain.stop()?;
    checks.same(format_args!("the server's end"), helper.domain.status()?.state, DomainState::Stopped)?;
    drop((last, helper));
    let other = Helper::new(tools)?;
    checks.same(format_args!("another domain"), other.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("servers died with calls inside that nobody waits for")
}

pub(super) fn caller(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let caller = tools.start("role=caller", &[grant("next", *helper.endpoint, CapRights::CALL)])?;
    helper.until_here()?;
    caller.stop()?;
    checks.same(format_args!("the caller's end"), caller.status()?.state, DomainState::Stopped)?;
    // Its number may go to somebody else meanwhile.
    drop(caller);
    let other = Helper::new(tools)?;
    let tally =
        helper.client().call_until(&Request::Tally, Instant::after(crate::crew::WHILE)).map_err(cause);
    refused(checks, "the server is still busy", tally, Error::TimedOut)?;
    helper.release()?;
    checks.same(
        format_args!("what it read of the loan"),
        helper.ask(&Request::Tally)?,
        Reply::Words(0, LENT),
    )?;
    checks.same(format_args!("the other domain"), other.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("the server read what a dead caller had lent")
}

pub(super) fn fault_in_call(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let (note, client) = (Notification::create()?, helper.client());
    let hears = *note;
    let caller = tools.thread(move || {
        Thread::current()?.on_fault(hears, 1)?;
        client.call(&Request::Panic).map_err(cause)
    })?;
    checks.same(format_args!("a panic"), outcome(&caller)?, Err(Error::PeerDiedMidCall))?;
    let (helper, region) = (Helper::new(tools)?, Region::create(8, None)?);
    let client = helper.client();
    let lent = *region;
    let caller = tools.thread(move || {
        Thread::current()?.on_fault(hears, 1)?;
        let request = &Request::ReadUnopened;
        client.exchange(request, &[Offer::lend(lent)], None).map(|(reply, _)| reply).map_err(cause)
    })?;
    checks.same(format_args!("a key fault"), outcome(&caller)?, Err(Error::PeerDiedMidCall))?;
    checks.same(format_args!("the server's end"), end_of(*helper.domain)?.0, DomainState::Faulted)?;
    refused(checks, "what the caller heard", note.poll(), Error::WouldBlock)?;
    Ok("faults in a call ended the server, not the caller")
}

pub(super) fn last_capability_on_loan(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::serving(tools, Endpoint::create()?, 2, None)?;
    let (client, lent) = (helper.client(), *helper.endpoint);
    let pending = tools.thread(move || {
        client.exchange(&Request::Wait, &[Offer::lend(lent)], None).map(|(reply, _)| reply).map_err(cause)
    })?;
    helper.until_here()?;
    // What is left is the loan: by it the helper still may serve.
    helper.expect(&Request::DropServe, &Reply::Done)?;
    helper.expect(&Request::Badge, &Reply::Word(0))?;
    helper.endpoint.delete()?;
    refused(checks, "the deleted endpoint", helper.ask(&Request::Badge), Error::NoSuchCapability)?;
    helper.release()?;
    checks.same(format_args!("the call"), outcome(&pending)?, Ok(Reply::Done))?;
    checks.that(helper.domain.status().is_ok(), format_args!("the domain cannot be asked"))?;
    checks.that(Helper::new(tools).is_ok(), format_args!("no other helper can be made"))?;
    Ok("the endpoint went with the loan")
}

/// A domain with a capability to itself.
fn narcissus(tools: &Tools, endpoint: Endpoint) -> Run<libpks::rt::Owned<libpks::rt::Domain>> {
    let arguments = alloc::format!("role=server activations=2 stack={STACK}");
    let mut unborn = tools.make(&arguments, &[grant("serve", endpoint, CapRights::SERVE)])?;
    let handle = unborn.domain.grant(*unborn.domain, CapRights::READ | CapRights::MANAGE, 0)?.raw();
    let own = libpks::abi::start::NamedCap { name: libpks::abi::name("own"), handle };
    unborn.info.caps.push(own).map_err(|_| Error::TooLarge)?;
    unborn.domain.start(STACK, &unborn.info)?;
    Ok(unborn.domain)
}

pub(super) fn ends_itself(tools: &Tools, checks: &Checks) -> Run<Seen> {
    for request in [Request::StopSelf, Request::ForgetSelf] {
        let endpoint = Endpoint::create()?;
        let domain = narcissus(tools, *endpoint)?;
        let client = Client::<Errand>::new(*endpoint);
        let call = |request: &Request| client.call_until(request, Instant::after(PATIENCE)).map_err(cause);
        checks.same(format_args!("before"), call(&Request::Badge), Ok(Reply::Word(0)))?;
        // Its own capability is the last.
        drop(domain);
        checks.same(format_args!("{request:?}"), call(&request), Err(Error::PeerDiedMidCall))?;
    }
    Ok("two domains ended themselves")
}
