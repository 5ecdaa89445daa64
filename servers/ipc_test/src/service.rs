//! Requests, one run at a time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use libpks::abi::Error;
use libpks::proto::ipc_test::{IpcTest, SCENARIOS, find};
use libpks::proto::pks_test::{Outcome, Refusal, Reply, Request, Scenario, Verdict, page};
use libpks::rt::sync::Mutex;
use libpks::rt::thread::spawn;
use libpks::rt::{Caller, Instant, Notification, SharedServer, Thread};

use crate::crew::Tools;
use crate::scenarios;
use libpks::proto::pks_test::checks::{Checks, Stop};

const STACK: u64 = 128 * 1024;
/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(50);
const FAULT: u64 = 1;
const DONE: u64 = 2;

/// The server as the runtime sees it.
pub(crate) struct Desk(pub(crate) Arc<Service>);

impl SharedServer for Desk {
    type Protocol = IpcTest;

    fn handle(&self, _caller: &mut Caller, request: Request) -> Reply {
        match request {
            Request::List { from } => Reply::Listing(page(SCENARIOS, from)),
            Request::Run { name } => {
                find(&name).map_or(Reply::Refused(Refusal::UnknownScenario), |it| self.0.run(it))
            }
            Request::Last => {
                self.0.last.lock().clone().map_or(Reply::Refused(Refusal::NothingRun), Reply::Done)
            }
        }
    }
}

/// The state of the server.
pub(crate) struct Service {
    tools: Tools,
    running: AtomicBool,
    last: Mutex<Option<Outcome>>,
}

impl Service {
    pub(crate) const fn new(tools: Tools) -> Self {
        Self { tools, running: AtomicBool::new(false), last: Mutex::new(None) }
    }

    fn run(&self, scenario: &'static Scenario) -> Reply {
        if self.running.swap(true, Ordering::Acquire) {
            return Reply::Refused(Refusal::Busy);
        }
        let outcome = self.supervised(scenario);
        *self.last.lock() = Some(outcome.clone());
        self.running.store(false, Ordering::Release);
        Reply::Done(outcome)
    }

    /// Runs a scenario in a thread of its own, whose fault or silence is a failure and not the end of the server.
    pub(crate) fn supervised(&self, scenario: &'static Scenario) -> Outcome {
        self.try_supervised(scenario)
            .unwrap_or_else(|error| Outcome::new(Verdict::Fail, 0, format_args!("cannot run it: {error}")))
    }

    fn try_supervised(&self, scenario: &'static Scenario) -> Result<Outcome, Error> {
        let note = Notification::create()?;
        let (tools, signals) = (self.tools, *note);
        let worker = spawn(STACK, tools.priority, move || {
            let checks = Checks::default();
            let watched = Thread::current().and_then(|thread| thread.on_fault(signals, FAULT));
            let run = watched.map_err(Stop::from).and_then(|()| scenarios::run(scenario, &tools, &checks));
            let (verdict, seen) = match run {
                Ok(seen) => (Verdict::Pass, seen),
                Err(Stop(seen)) => (Verdict::Fail, *seen),
            };
            // The waiting side would see the timeout.
            let _ = signals.signal(DONE);
            Outcome { verdict, checks: checks.made(), seen }
        })?;
        match note.wait(Some(Instant::after(LIMIT))) {
            Ok(DONE) => worker.join(Some(Instant::after(LIMIT))),
            other => {
                let report = worker.thread().fault().map(|report| (report.kind, report.address, report.rip));
                let _ = worker.thread().kill();
                Ok(Outcome::new(Verdict::Fail, 0, format_args!("no end: {other:?}, {report:x?}")))
            }
        }
    }
}
