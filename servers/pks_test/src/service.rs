//! Requests: one session for each client, one run at a time.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use libpks::abi::Error;
use libpks::proto::pks_test::{
    Crash, Outcome, PksTest, Refusal, Reply, Request, SCENARIOS, Scenario, Verdict, crash, find, page,
};
use libpks::rt::sync::Mutex;
use libpks::rt::thread::spawn;
use libpks::rt::{Caller, Instant, Notification, SharedServer, Thread};

use crate::bench::{Footprint, Tools};
use crate::crash::Prepared;
use crate::scenarios;
use crate::subject::{DONE, FAULT, Short};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// Clients whose sessions are kept apart.
const SESSIONS: usize = 32;
const STACK: u64 = 128 * 1024;
/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(50);

/// The server as the runtime sees it.
#[derive(Debug)]
pub(crate) struct Desk(pub(crate) Arc<Service>);

impl SharedServer for Desk {
    type Protocol = PksTest;

    fn handle(&self, caller: &mut Caller, request: Request) -> Reply {
        self.0.handle(caller.badge, request)
    }
}

/// The state of the server.
#[derive(Debug)]
pub(crate) struct Service {
    tools: Tools,
    sessions: Mutex<Vec<Session>>,
    running: AtomicBool,
}

/// What is kept for a client.
#[derive(Debug)]
struct Session {
    badge: u64,
    /// What the crash will write to, after the first of the two requests.
    armed: Option<Prepared>,
    last: Option<Outcome>,
}

/// Says that nothing runs any more.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Service {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, sessions: Mutex::new(Vec::new()), running: AtomicBool::new(false) }
    }

    /// Carries out a request of the client with this badge.
    pub(crate) fn handle(self: &Arc<Self>, badge: u64, request: Request) -> Reply {
        // Whatever is asked, an armed crash is taken out of the session first; only asking for it again keeps it.
        let armed = match self.with_session(badge, |session| session.armed.take()) {
            Ok(armed) => armed,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let outcome = match request {
            Request::List { from } => return Reply::Listing(page(SCENARIOS, from)),
            Request::Last => {
                self.with_session(badge, |session| session.last.clone().ok_or(Refusal::NothingRun)).flatten()
            }
            Request::Run { name } => match find(&name) {
                None => Err(Refusal::UnknownScenario),
                Some(scenario) => match crash(scenario.name) {
                    Some(crash) => return self.crash(badge, crash, armed),
                    None => self.run(badge, scenario),
                },
            },
        };
        outcome.map_or_else(Reply::Refused, Reply::Done)
    }

    fn with_session<T>(&self, badge: u64, use_fn: impl FnOnce(&mut Session) -> T) -> Result<T, Refusal> {
        let mut sessions = self.sessions.lock();
        let place = match sessions.iter().position(|session| session.badge == badge) {
            Some(place) => place,
            None if sessions.len() >= SESSIONS => return Err(Refusal::TooManyClients),
            None => {
                sessions.push(Session { badge, armed: None, last: None });
                sessions.len() - 1
            }
        };
        sessions.get_mut(place).map(use_fn).ok_or(Refusal::TooManyClients)
    }

    fn claim(&self) -> Result<Running<'_>, Refusal> {
        match self.running.swap(true, Ordering::Acquire) {
            true => Err(Refusal::Busy),
            false => Ok(Running(&self.running)),
        }
    }

    fn run(self: &Arc<Self>, badge: u64, scenario: &'static Scenario) -> Result<Outcome, Refusal> {
        let _running = self.claim()?;
        let before = self.tools.footprint();
        let outcome = tidy(self.supervised(scenario), before, self.tools.footprint());
        self.with_session(badge, |session| session.last = Some(outcome.clone()))?;
        Ok(outcome)
    }

    /// Runs a scenario in a thread of its own, whose fault or silence is a failure and not the end of the server.
    fn supervised(self: &Arc<Self>, scenario: &'static Scenario) -> Outcome {
        let failed = |error: Error| Outcome::new(Verdict::Fail, 0, format_args!("cannot run it: {error}"));
        let note = match Notification::create() {
            Ok(note) => note,
            Err(error) => return failed(error),
        };
        let (service, signals) = (Arc::clone(self), *note);
        let body = move || {
            let checks = Checks::default();
            let watched = Thread::current().and_then(|thread| thread.on_fault(signals, FAULT));
            let run = watched.map_err(Stop::from).and_then(|()| scenarios::run(scenario, &service, &checks));
            let outcome = judge(run, checks.made());
            // The waiting side would see the timeout.
            let _ = signals.signal(DONE);
            outcome
        };
        let worker = match spawn(STACK, self.tools.priority, body) {
            Ok(worker) => worker,
            Err(error) => return failed(error),
        };
        match note.wait(Some(Instant::after(LIMIT))) {
            Ok(DONE) => worker.join(Some(Instant::after(LIMIT))).unwrap_or_else(failed),
            Ok(_) => {
                let outcome = match worker.thread().fault() {
                    Ok(report) => {
                        Outcome::new(Verdict::Fail, 0, format_args!("it faulted: {}", Short(&report)))
                    }
                    Err(error) => {
                        Outcome::new(Verdict::Fail, 0, format_args!("it faulted, no report: {error}"))
                    }
                };
                let _ = worker.thread().kill();
                outcome
            }
            Err(error) => {
                let _ = worker.thread().kill();
                Outcome::new(Verdict::Fail, 0, format_args!("no end within {} s: {error}", LIMIT.as_secs()))
            }
        }
    }

    /// Arms a crash, or carries it out: then this does not come back.
    fn crash(&self, badge: u64, crash: &'static Crash, armed: Option<Prepared>) -> Reply {
        let Some(prepared) = armed.filter(|prepared| prepared.crash() == crash) else {
            return self.arm(badge, crash);
        };
        let _running = match self.claim() {
            Ok(running) => running,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let survived = prepared.carry_out(&self.tools);
        Reply::Done(Outcome::new(Verdict::Fail, 0, format_args!("the domain survived: {survived:?}")))
    }

    fn arm(&self, badge: u64, crash: &'static Crash) -> Reply {
        let prepared = match Prepared::new(&self.tools, crash) {
            Ok(prepared) => prepared,
            Err(error) => return Reply::Refused(Refusal::CannotArm(error)),
        };
        let armed = prepared.armed();
        match self.with_session(badge, |session| session.armed = Some(prepared)) {
            Ok(()) => Reply::Armed(armed),
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }
}

/// A scenario that leaves a thread or a capability behind has not passed.
fn tidy(outcome: Outcome, before: Result<Footprint, Error>, after: Result<Footprint, Error>) -> Outcome {
    if outcome.verdict != Verdict::Pass || (before.is_ok() && before == after) {
        return outcome;
    }
    let checks = outcome.checks;
    Outcome::new(Verdict::Fail, checks, format_args!("left behind: {before:?} before, {after:?} after"))
}

fn judge(run: Run<libpks::proto::pks_test::Seen>, checks: u32) -> Outcome {
    match run {
        Ok(seen) => Outcome { verdict: Verdict::Pass, checks, seen },
        Err(Stop(seen)) => Outcome { verdict: Verdict::Fail, checks, seen: *seen },
    }
}
