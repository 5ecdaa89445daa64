//! Budgets of CPU time: used up, renewed, charged to the right domain, and never a reason for others to stand still.

use libpks::budget::{Budget, CpuTime};
use libpks::rt::{Domain, Endpoint, Error, Owned, Region};

use super::refused;
use crate::client::{Asker, SERVED, Until, Wish};
use crate::crew::{Helper, Means, Tools, grant, until};
use crate::errand::{Reply, Request};
use libpks::proto::ipc_test::SERVER;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};
use libpks::rt::CapRights;

type Seen = &'static str;

const MS: u64 = 1_000_000;
/// Uses of a region that are more than chance.
const MANY: u64 = 10_000;

/// A budget in milliseconds.
pub(super) fn budget(ms: u64, every_ms: u64) -> Result<Budget, Error> {
    Budget::new(ms * MS, every_ms * MS).map_err(|_| Error::InvalidArgument)
}

/// Waits until this domain itself has a budget that lasts for some steps.
pub(super) fn rested(tools: &Tools) -> Run {
    until("there was a budget", || Ok((tools.cpu_time(SERVER)?.left_ns > 10 * MS).then_some(())))
}

/// A domain that counts without a pause, on the first CPU, and never enters the kernel.
pub(super) struct Spinner {
    _domain: Owned<Domain>,
    beat: Owned<Region>,
}

impl Spinner {
    pub(super) fn start(tools: &Tools, means: Means) -> Run<Self> {
        let beat = Region::create(8, None)?;
        let both = CapRights::READ | CapRights::WRITE;
        let grants = [grant("beat", *beat, both), grant("region", *beat, CapRights::READ)];
        let domain = tools.start_with(means, "role=beater cpu=0", &grants)?;
        let spinner = Self { _domain: domain, beat };
        until("a domain counted", || Ok((spinner.count()? > 0).then_some(())))?;
        Ok(spinner)
    }

    pub(super) fn count(&self) -> Result<u64, Error> {
        self.beat.open_read()?.read_u64(0)
    }
}

pub(super) fn starves_nobody(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let low = Means { name: "low", priority: 1, ..tools.means() };
    let high = Means { name: "high", ..tools.means() };
    let low = Spinner::start(tools, low)?;
    let high = Spinner::start(tools, high)?;
    for round in 0..3 {
        let (low_before, high_before) = (low.count()?, high.count()?);
        until("both had got on", || {
            let both = low.count()? > low_before + MANY && high.count()? > high_before + MANY;
            Ok(both.then_some(()))
        })
        .map_err(|_| {
            let [low, high] = [(&low, low_before), (&high, high_before)]
                .map(|(spinner, before)| spinner.count().map(|count| count - before));
            Stop::failed(format_args!(
                "round {round}: the less urgent got on by {low:?}, the other by {high:?}"
            ))
        })?;
        checks.that(true, format_args!("round {round}"))?;
    }
    let time = tools.cpu_time("high")?;
    checks.that(time.depletions > 0, format_args!("whoever never rested kept its budget: {time:?}"))?;
    checks.that(time.background_ns > 0, format_args!("it got on at its priority: {time:?}"))?;
    Ok("two domains that never rest, on one CPU")
}

pub(super) fn runs_out(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let means = Means { name: "spender", budget: budget(2, 20)?, ..tools.means() };
    let _spender = Spinner::start(tools, means)?;
    let time: CpuTime = until("a budget had come back five times", || {
        let time = tools.cpu_time("spender")?;
        Ok((time.renewals >= 5 && time.used_ns > 500 * MS).then_some(time))
    })?;
    let CpuTime { used_ns, background_ns, depletions, renewals, left_ns } = time;
    checks.that(
        depletions == renewals || depletions == renewals + 1,
        format_args!("{depletions} times used up, {renewals} times renewed"),
    )?;
    checks.that(left_ns <= 2 * MS, format_args!("{left_ns} ns left of a budget of 2 ms"))?;
    let at_priority = used_ns - background_ns;
    checks.that(
        at_priority > 0 && at_priority * 2 < used_ns,
        format_args!("{at_priority} of {used_ns} ns at its priority, with a budget of a tenth"),
    )?;
    Ok("2 ms in 20, again and again")
}

pub(super) fn charged_to_client(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let server = Means { name: "server", ..tools.means() };
    let server = Helper::serving_with(tools, server, Endpoint::create()?, 1, None)?;
    let client = Means { name: "client", budget: budget(5, 100)?, ..tools.means() };
    let client = Asker::start(tools, client, *server.endpoint, Wish::Toil(200), Until::Idle, None)?;
    let used = || -> Result<[u64; 2], Error> {
        Ok([tools.cpu_time("client")?.used_ns, tools.cpu_time("server")?.used_ns])
    };
    let before = used()?;
    client.ask()?;
    client.until_over(SERVED)?;
    let after = used()?;
    let [client_ns, server_ns] = [after[0] - before[0], after[1] - before[1]];
    let seen = format_args!("{client_ns} ns were charged to the client, {server_ns} to the server");
    checks.that(client_ns > 50 * MS && client_ns > 4 * server_ns, seen)?;
    Ok("200 ms in a server")
}

pub(super) fn long_call(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let server = Means { name: "server", ..tools.means() };
    let server = Helper::serving_with(tools, server, Endpoint::create()?, 1, None)?;
    let client = Means { name: "client", budget: budget(1, 1000)?, ..tools.means() };
    let client = Asker::start(tools, client, *server.endpoint, Wish::Toil(300), Until::Idle, None)?;
    client.ask()?;
    client.until_over(SERVED)?;
    let time = tools.cpu_time("client")?;
    checks.that(time.depletions > 0, format_args!("the budget lasted: {time:?}"))?;
    checks.same(
        format_args!("calls that came to their end"),
        server.ask(&Request::Tally)?,
        Reply::Words(1, 0),
    )?;
    Ok("a call went on 300 times as long as its client's budget")
}

pub(super) fn quota(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let make = |ms| {
        let means = Means { budget: budget(ms, 1000)?, ..tools.means() };
        tools.make_with(means, "role=server", &[])
    };
    refused(checks, "nearly all of a CPU", make(949).map(drop), Error::CpuExceeded)?;
    // What is free: more than 10, less than 50 per cent.
    let first = make(100)?;
    let mut others = alloc::vec::Vec::new();
    let refusal = loop {
        match make(100) {
            Ok(other) => others.push(other),
            Err(error) => break error,
        }
        checks.that(others.len() < 5, format_args!("{} budgets of a tenth on top", others.len()))?;
    };
    checks.same(format_args!("one more"), refusal, Error::CpuExceeded)?;
    drop(first);
    checks.that(make(100).is_ok(), format_args!("what a domain had is not there after its end"))?;
    Ok("no more than one CPU can be promised")
}
