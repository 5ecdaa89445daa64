//! Servers that do not come back, and calls whose client has gone.

use libpks::abi::fault::{FaultKind, FaultReport};
use libpks::abi::inspect::DomainState;
use libpks::rt::{Endpoint, Error, Instant};

use crate::client::{Asker, PEER_DIED, Until, Wish};
use crate::crew::{Helper, Means, PATIENCE, Tools, end_of, outcome, still_waits};
use crate::errand::{Reply, Request};
use crate::scenarios::time::rested;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

const MS: u64 = 1_000_000;
/// What a call may take beyond the client's budget here.
const OVERRUN_NS: u64 = 200 * MS;

/// What the last server toils: time enough for this domain to end the one before it, also on a slow CPU.
const TOIL_MS: u64 = 1000;

/// The end of a helper must be one by hanging.
fn hung(helper: &Helper) -> Run<FaultReport> {
    match end_of(*helper.domain)? {
        (DomainState::Faulted, Some(report)) if report.kind == FaultKind::Hung => Ok(*report),
        (state, report) => {
            Err(Stop::failed(format_args!("the end was {state:?}, {:?}", report.map(|report| report.kind))))
        }
    }
}

pub(super) fn server(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let means = Means { name: "server", overrun_ns: OVERRUN_NS, ..tools.means() };
    let mut server = Helper::serving_with(tools, means, Endpoint::create()?, 1, None)?;
    let client = Means { name: "client", ..tools.means() };
    let client = Asker::start(tools, client, *server.endpoint, Wish::Hang, Until::Idle, None)?;
    client.ask()?;
    server.until_here()?;
    let next = server.send(Request::Badge)?;
    let report = hung(&server)?;
    checks.same(format_args!("who hung"), report.domain_name.as_str(), "server")?;
    checks.that(report.message.contains("client"), format_args!("no client in \"{}\"", report.message))?;
    let named = report.backtrace.iter().filter_map(|step| step.symbol.as_ref());
    checks.that(
        named.clone().any(|(symbol, _)| symbol.contains("hang")),
        format_args!("it hung in {:?}", named.map(|(symbol, _)| symbol).next()),
    )?;
    client.until_over(PEER_DIED)?;
    let paid = tools.cpu_time("client")?.used_ns;
    checks.that(paid >= OVERRUN_NS, format_args!("the client paid {paid} ns"))?;
    checks.that(still_waits(&next), format_args!("who waited waits no more"))?;
    server.replace()?;
    checks.same(format_args!("who waited"), outcome(&next)?, Ok(Reply::Word(0)))?;
    Ok("a server hung; who had called it and who waited for it went on")
}

/// A calls B calls C, and B ends while C is at work.
pub(super) fn orphan(tools: &Tools, checks: &Checks) -> Run<Seen> {
    for (wish, ends) in [(Wish::ToilBehind(TOIL_MS), true), (Wish::HangBehind, false)] {
        let last = Means { name: "last", overrun_ns: 2 * TOIL_MS * MS, ..tools.means() };
        let last = Helper::serving_with(tools, last, Endpoint::create()?, 1, None)?;
        let next = *last.endpoint;
        let between = Helper::serving(tools, Endpoint::create()?, 1, Some(next))?;
        let first = Means { name: "first", ..tools.means() };
        let first = Asker::start(tools, first, *between.endpoint, wish, Until::Idle, None)?;
        rested(tools)?;
        first.ask()?;
        last.until_here()?;
        between.domain.stop()?;
        first.until_over(PEER_DIED)?;
        let paid = tools.cpu_time("first")?.used_ns;
        if ends {
            let tally = last.client().call_until(&Request::Tally, Instant::after(PATIENCE));
            let tally = tally.map_err(crate::helper::cause)?;
            checks.same(format_args!("errands that came to their end"), tally, Reply::Words(1, 0))?;
        } else {
            let alive = last.domain.status()?.state;
            checks.same(format_args!("the last server"), alive, DomainState::Running)?;
            let report = hung(&last)?;
            checks.that(
                report.message.contains("has ended"),
                format_args!("somebody paid: \"{}\"", report.message),
            )?;
        }
        let later = tools.cpu_time("first")?.used_ns - paid;
        checks.that(later < OVERRUN_NS, format_args!("the first caller paid {later} ns for what went on"))?;
    }
    let gone = tools.cpu_time("first");
    checks.same(format_args!("the first caller"), gone, Err(Error::NotFound))?;
    Ok("a call went on by itself to its end, another to the end of its recovery budget")
}
