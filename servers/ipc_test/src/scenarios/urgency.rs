//! Who is urgent and waits for a server is not held up by whom the server works for.

use libpks::rt::thread::spawn;
use libpks::rt::{Error, Instant, Thread};

use super::time::{Spinner, budget, rested};
use crate::client::{Asker, SERVED, Until, Wish};
use crate::crew::{Helper, Means, PATIENCE, STACK, Tools, outcome, still_waits, until};
use crate::errand::{Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

/// How often it is tried again when who is between has used up its budget: on a slow host by itself. Where the urgent call
/// has to wait for that, it is so each time.
const TRIES: usize = 5;

/// A server works for a client that is less urgent than somebody between who never rests.
pub(super) fn low_priority(tools: &Tools, checks: &Checks) -> Run<Seen> {
    hurried(tools, checks, Until::Idle)?;
    Ok("the server ran at its urgent waiter's priority, past one that never rests")
}

/// The same for a client whose budget is used up.
pub(super) fn no_budget(tools: &Tools, checks: &Checks) -> Run<Seen> {
    hurried(tools, checks, Until::Spending)?;
    Ok("the server ran at its urgent waiter's priority, though its client had no budget")
}

/// On one CPU: a server that works for a client that does not get to run, somebody between who never rests, and an
/// urgent caller. While the one between has its budget nobody less urgent runs there.
fn hurried(tools: &Tools, checks: &Checks, client: Until) -> Run {
    for _ in 0..TRIES {
        if try_hurried(tools, checks, client)? {
            return Ok(());
        }
    }
    checks.that(false, format_args!("the urgent call had to wait for somebody less urgent, {TRIES} times"))
}

/// Gives whether it could be seen.
fn try_hurried(tools: &Tools, checks: &Checks, until_asked: Until) -> Run<bool> {
    let [low, middle, high] = [3, 2, 1].map(|less| tools.priority.saturating_sub(less));
    let server = Helper::new(tools)?;
    // What it gets is used up in no time, and comes back after all is over.
    let holder = Means { name: "holder", priority: low, budget: budget(5, 10_000)?, ..tools.means() };
    let holder = Asker::start(tools, holder, *server.endpoint, Wish::Wait, until_asked, Some(0))?;
    if until_asked == Until::Spending {
        until("its budget was used up", || Ok((tools.cpu_time("holder")?.depletions > 0).then_some(())))?;
    }
    holder.ask()?;
    server.until_here()?;
    rested(tools)?;
    let between = Means { name: "between", priority: middle, budget: budget(1000, 10_000)?, ..tools.means() };
    let between = Spinner::start(tools, between)?;
    let client = server.client();
    let urgent = spawn(STACK, high, move || {
        Thread::current()?.bind(Some(0))?;
        client.call_until(&Request::Badge, Instant::after(PATIENCE)).map_err(cause)
    })?;
    let waits = still_waits(&urgent);
    let count = between.count()?;
    server.release()?;
    let reply = outcome(&urgent)?;
    let time = tools.cpu_time("between")?;
    checks.that(waits, format_args!("a busy server took a second caller"))?;
    checks.same(format_args!("the urgent call"), reply, Ok::<_, Error>(Reply::Word(0)))?;
    if time.depletions > 0 || time.background_ns > 0 {
        return Ok(false);
    }
    holder.until_over(SERVED)?;
    until("who never rests went on", || Ok((between.count()? > count).then_some(())))?;
    checks.that(true, format_args!("it ran all the time"))?;
    Ok(true)
}
