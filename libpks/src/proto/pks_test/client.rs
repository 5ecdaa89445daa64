//! Running a scenario from another domain, the crash included.

use core::time::Duration;

use super::{Armed, Outcome, Refusal, Reply, Request};
use crate::abi::{Error, name};
use crate::proto::Protocol;
use crate::rt::{CallError, Client, Inspect, Instant, time};

/// How long the supervisor may take to start the server again after the crash.
const RESTART: Duration = Duration::from_secs(30);
/// How long a server may take to accept a request. One that was stopped never does.
pub const ACCEPTED_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether the server answers again.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// The server did not run it.
    #[error("{0}")]
    Refused(Refusal),
    /// The call failed.
    #[error("{0}")]
    Call(CallError),
    /// The server answered something else.
    #[error("the answer is not one to this request")]
    Unexpected,
}

/// Runs a scenario and judges its outcome from outside: [`Outcome::judged`], and for a crash
/// [`Armed::verdict`] with the newest report that `inspect` tells.
///
/// # Errors
/// See [`RunError`]. A server that dies in a scenario other than the crash is [`RunError::Call`].
pub fn run<P>(client: &Client<P>, inspect: Inspect, scenario: &str) -> Result<Outcome, RunError>
where
    P: Protocol<Request = Request, Reply = Reply>,
{
    let request = Request::Run { name: name(scenario) };
    match client.call_until(&request, Instant::after(ACCEPTED_WITHIN)).map_err(RunError::Call)? {
        Reply::Done(outcome) => Ok(outcome.judged(scenario)),
        Reply::Armed(armed) if super::crash(scenario).is_some() => {
            crash(client, inspect, &request, armed).map(|outcome| outcome.judged(scenario))
        }
        Reply::Refused(refusal) => Err(RunError::Refused(refusal)),
        Reply::Armed(_) | Reply::Listing(_) => Err(RunError::Unexpected),
    }
}

fn crash<P>(
    client: &Client<P>,
    inspect: Inspect,
    request: &Request,
    armed: Armed,
) -> Result<Outcome, RunError>
where
    P: Protocol<Request = Request, Reply = Reply>,
{
    let asked_ns = Instant::now().as_nanos();
    let call = match client.call_until(request, Instant::after(ACCEPTED_WITHIN)) {
        Ok(reply) => Ok(reply),
        Err(CallError::Failed(error)) => Err(error),
        Err(error) => return Err(RunError::Call(error)),
    };
    // A report from before is of another crash.
    let report = inspect.fault(0).ok().flatten().filter(|report| report.time_ns >= asked_ns);
    let answers = call == Err(Error::PeerDiedMidCall) && answers_again(client);
    Ok(armed.verdict(call.as_ref().map_err(|error| *error), report.as_ref(), answers))
}

fn answers_again<P: Protocol<Request = Request, Reply = Reply>>(client: &Client<P>) -> bool {
    let until = Instant::after(RESTART);
    while Instant::now() < until {
        if let Ok(Reply::Listing(_)) = client.call_until(&Request::List { from: 0 }, until) {
            return true;
        }
        // Not served at this moment.
        let _ = time::sleep(LOOK);
    }
    false
}
