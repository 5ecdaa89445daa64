//! S10: the test server refuses what it must. It is called by itself, through an endpoint of its own, as two clients
//! with a badge each; that this scenario runs is the run that is under way.

use alloc::sync::Arc;

use libpks::abi::{Error, name};
use libpks::proto::pks_test::{CRASHES, PksTest, Refusal, Reply, Request, SCENARIOS};
use libpks::rt::text::cut;
use libpks::rt::{CallError, CapRights, Capability, Client, Endpoint, Owned, serve};

use crate::service::{Desk, Service};
use libpks::proto::pks_test::Seen;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

const STACK: u64 = 64 * 1024;
/// Badges that no manifest gives.
const BADGES: [u64; 2] = [0xface_0001, 0xface_0002];

/// A client of the private endpoint.
struct Visitor {
    client: Client<PksTest>,
    /// Lives as long as the client.
    _endpoint: Owned<Endpoint>,
}

impl Visitor {
    fn ask(&self, request: &Request) -> Run<Reply> {
        self.client
            .call(request)
            .map_err(|error: CallError| Stop::failed(format_args!("{request:?}: {error}")))
    }

    fn run(&self, scenario: &str) -> Run<Reply> {
        self.ask(&Request::Run { name: name(scenario) })
    }
}

pub(in crate::scenarios) fn run(service: &Arc<Service>, checks: &Checks) -> Run<Seen> {
    let endpoint = Endpoint::create()?;
    serve::start_shared(*endpoint, Desk(Arc::clone(service)), 2, STACK)?;
    let visitor = |badge| -> Run<Visitor> {
        let minted = endpoint.mint(CapRights::CALL, badge)?;
        Ok(Visitor { client: Client::new(*minted), _endpoint: minted })
    };
    let [first, second] = [visitor(BADGES[0])?, visitor(BADGES[1])?];
    names(&first, checks)?;
    sessions(&first, &second, checks)?;
    arming(&first, &second, checks)?;
    Ok(cut(format_args!("unknown names, two runs at once, results and arming of two clients")))
}

/// All scenarios are listed once, and others refused.
fn names(first: &Visitor, checks: &Checks) -> Run {
    let mut listed = 0;
    loop {
        let from = u32::try_from(listed).map_err(|_| Error::InvalidArgument)?;
        let Reply::Listing(page) = first.ask(&Request::List { from })? else {
            return Err(Stop::failed(format_args!("a list was asked for, and something else came")));
        };
        for line in &page {
            let known = SCENARIOS.get(listed).map(|scenario| scenario.name);
            checks.same(format_args!("scenario {listed}"), Some(line.name.as_str()), known)?;
            listed += 1;
        }
        if page.is_empty() {
            break;
        }
    }
    checks.same(format_args!("scenarios listed"), listed, SCENARIOS.len())?;
    for unknown in ["", "S", "S1", "S1_defaults!", "s1_defaults"] {
        let reply = first.run(unknown)?;
        checks.same(format_args!("{unknown:?}"), reply, Reply::Refused(Refusal::UnknownScenario))?;
    }
    Ok(())
}

/// One run at a time, and each client sees its own results.
fn sessions(first: &Visitor, second: &Visitor, checks: &Checks) -> Run {
    for visitor in [first, second] {
        let nothing = visitor.ask(&Request::Last)?;
        checks.same(format_args!("result without a run"), nothing, Reply::Refused(Refusal::NothingRun))?;
        let busy = visitor.run("S10_harness")?;
        checks.same(format_args!("a second run beside this one"), busy, Reply::Refused(Refusal::Busy))?;
        let nothing = visitor.ask(&Request::Last)?;
        checks.same(format_args!("result of a refused run"), nothing, Reply::Refused(Refusal::NothingRun))?;
    }
    Ok(())
}

/// The crash that is armed here.
const CRASH: &str = CRASHES[0].scenario;
/// Another one, which must not be taken for the second request.
const OTHER_CRASH: &str = CRASHES[1].scenario;

/// The crash needs two requests in a row of the same client. A stale arming would end this domain here.
fn arming(first: &Visitor, second: &Visitor, checks: &Checks) -> Run {
    checks.that(is_armed(&first.run(CRASH)?), format_args!("the crash was not armed"))?;
    let disarm = |visitor: &Visitor, by: &Request| visitor.ask(by).map(drop);
    disarm(first, &Request::List { from: 0 })?;
    let others = [Request::Last, Request::List { from: 99 }, Request::Run { name: name("S99") }];
    for other in others {
        checks.that(is_armed(&first.run(CRASH)?), format_args!("not armed anew before {other:?}"))?;
        disarm(first, &other)?;
    }
    checks.that(is_armed(&first.run(CRASH)?), format_args!("the first client's crash is not armed"))?;
    checks.that(
        is_armed(&second.run(CRASH)?),
        format_args!("the second client's crash is not armed by itself"),
    )?;
    // Another crash is another request: it disarms the first and is armed itself.
    for crash in [OTHER_CRASH, CRASH] {
        checks
            .that(is_armed(&first.run(crash)?), format_args!("{crash} is not armed after another crash"))?;
    }
    // Armed and asked again, but something runs: refused, and disarmed.
    let busy = first.run(CRASH)?;
    checks.same(format_args!("the crash beside this run"), busy, Reply::Refused(Refusal::Busy))?;
    checks.that(is_armed(&first.run(CRASH)?), format_args!("a refused crash stayed armed"))?;
    disarm(first, &Request::Last)?;
    disarm(second, &Request::Last)
}

fn is_armed(reply: &Reply) -> bool {
    matches!(reply, Reply::Armed(_))
}
