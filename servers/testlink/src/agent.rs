//! Carries out what the harness asks, as a client of the other servers.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::inspect::DomainState;
use libpks::abi::selftest::SelfTestOp;
use libpks::abi::{Error, Name, VERSION, name};
use libpks::proto::Protocol;
use libpks::proto::adversary::judge::{Failure, Judge};
use libpks::proto::adversary::{self, Adversary};
use libpks::proto::fuzzer::{self, Fuzzer};
use libpks::proto::ipc_test::{self, IpcTest};
use libpks::proto::pks_test::{self, Outcome, PksTest, Refusal, RunError, Verdict};
use libpks::proto::stress::{self, Stress};
use libpks::proto::supervisor::{self, Supervisor};
use libpks::proto::testlink::{self, Action, Answered, Asked, Closing, MAX_BYTES, Problem, Reply, Request};
use libpks::rt::{CallError, Client, Env, EnvError, Inspect, SelfTest, time};
use libpks::wire;

use crate::endure;

/// What the harness reads from QEMU's exit code.
const SUCCESS: u64 = 0x10;
const FAILURE: u64 = 0x11;

/// What the test link can do, and what it has counted.
pub(crate) struct Agent {
    inspect: Inspect,
    self_test: SelfTest,
    pks_test: Option<Client<PksTest>>,
    ipc_test: Option<Client<IpcTest>>,
    supervisor: Option<Client<Supervisor>>,
    adversary: Option<Client<Adversary>>,
    judge: Option<Judge>,
    stress: Option<Client<Stress>>,
    fuzzer: Option<Client<Fuzzer>>,
    closing: Closing,
    /// The last request's number and its answer, should the harness ask again.
    last: Option<(u32, Vec<u8>)>,
}

impl Agent {
    pub(crate) fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            inspect: env.capability("inspect")?,
            self_test: env.capability("self-test")?,
            pks_test: env.client().ok(),
            ipc_test: env.client().ok(),
            supervisor: env.client().ok(),
            adversary: env.client().ok(),
            judge: Judge::new(env).ok(),
            stress: env.client().ok(),
            fuzzer: env.client().ok(),
            closing: Closing::default(),
            last: None,
        })
    }

    pub(crate) fn count_damaged(&mut self) {
        self.closing.damaged = self.closing.damaged.saturating_add(1);
    }

    /// The encoded answer, and whether the test ends with it.
    pub(crate) fn answer(&mut self, asked: &Asked) -> (&[u8], bool) {
        let ends = asked.request == Request::Finish;
        let is_again = self.last.as_ref().is_some_and(|(number, _)| *number == asked.number);
        if !is_again {
            self.closing.requests = self.closing.requests.saturating_add(1);
            let reply = self.carry_out(&asked.request).unwrap_or_else(Reply::Failed);
            self.last = Some((asked.number, encoded(asked.number, reply)));
        }
        (self.last.as_ref().map_or(&[], |(_, bytes)| bytes.as_slice()), ends)
    }

    /// Leaves QEMU, with the code that the closing record implies.
    pub(crate) fn exit(&self) -> Result<(), Error> {
        // A real UART still has the last bytes in its FIFO.
        time::sleep(Duration::from_millis(20))?;
        let code = if self.closing.failed == 0 { SUCCESS } else { FAILURE };
        self.self_test.run(SelfTestOp::Exit, [code, 0, 0, 0, 0]).map(drop)
    }

    fn carry_out(&mut self, request: &Request) -> Result<Reply, Problem> {
        match request {
            Request::Hello => self.ready(),
            Request::List { from } => self.list(*from),
            Request::Run { name } => self.run(name),
            Request::Domain { from } => {
                self.inspect.domain_from(u64::from(*from)).map(Reply::Domain).map_err(Problem::Kernel)
            }
            Request::Fault { index } => {
                self.inspect.fault(u64::from(*index)).map(Reply::Fault).map_err(Problem::Kernel)
            }
            Request::Server { name, action } => self.server(name, *action),
            Request::Crime { name } => self.crime(name),
            Request::Endure { death, times } => {
                let (server, supervisor) = (held(self.adversary)?, held(self.supervisor)?);
                endure::endure(server, supervisor, *death, *times).map(Reply::Endured)
            }
            Request::Persist(request) => {
                endure::persist(held(self.adversary)?, held(self.supervisor)?, request)
            }
            Request::Objects => self.inspect.objects().map(Reply::Objects).map_err(Problem::Kernel),
            Request::Servers => self.servers(),
            Request::LastFault { name } => self.last_fault(name),
            Request::Kill { name } => self.kill(name),
            Request::Doom { moment, death } => self.doom(*moment, *death),
            Request::Stress(session) => {
                let request = stress::Request::Run(*session);
                held(self.stress)?.call(&request).map(Reply::Stressed).map_err(problem)
            }
            Request::Fuzz(session) => {
                let request = fuzzer::Request::Run(*session);
                held(self.fuzzer)?.call(&request).map(Reply::Fuzzed).map_err(problem)
            }
            Request::Finish => Ok(Reply::Closing(self.closing)),
        }
    }

    fn ready(&self) -> Result<Reply, Problem> {
        let system = self.inspect.system().map_err(Problem::Kernel)?;
        Ok(Reply::Ready { version: testlink::VERSION, abi: VERSION, system })
    }

    /// The scenarios of `pks_test`, and behind them those of `ipc_test`.
    fn list(&self, from: u32) -> Result<Reply, Problem> {
        let first = u32::try_from(pks_test::SCENARIOS.len()).unwrap_or(u32::MAX);
        let page = match from.checked_sub(first) {
            None => held(self.pks_test)?.call(&pks_test::Request::List { from }),
            Some(from) => held(self.ipc_test)?.call(&pks_test::Request::List { from }),
        };
        match page.map_err(problem)? {
            pks_test::Reply::Listing(page) => Ok(Reply::Listing(page)),
            _ => Err(Problem::Unexpected),
        }
    }

    fn run(&mut self, scenario: &Name) -> Result<Reply, Problem> {
        let outcome = match ipc_test::find(scenario) {
            Some(_) => pks_test::run(&held(self.ipc_test)?, self.inspect, scenario),
            None => pks_test::run(&held(self.pks_test)?, self.inspect, scenario),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(RunError::Refused(Refusal::UnknownScenario)) => return Err(Problem::UnknownScenario),
            Err(RunError::Refused(_)) => return Err(Problem::Refused),
            Err(RunError::Call(CallError::Failed(Error::PeerDiedMidCall))) => self.died(),
            Err(RunError::Call(error)) => return Err(problem(error)),
            Err(RunError::Unexpected) => return Err(Problem::Unexpected),
        };
        self.closing.count(outcome.verdict);
        Ok(Reply::Outcome(outcome))
    }

    /// The outcome of a scenario that ended the test server although it must not.
    fn died(&self) -> Outcome {
        let why = self.inspect.fault(0).ok().flatten();
        let (kind, address, pkrs) =
            why.map_or((None, 0, 0), |report| (Some(report.kind), report.address, report.pkrs));
        Outcome::new(
            Verdict::Fail,
            0,
            format_args!("the test server died: {kind:?} at {address:#x} under {pkrs:#010x}"),
        )
    }

    fn server(&self, name: &Name, action: Action) -> Result<Reply, Problem> {
        let request = match action {
            Action::Start => supervisor::Request::Start(name.clone()),
            Action::Stop => supervisor::Request::Stop(name.clone()),
            Action::Restart => supervisor::Request::Restart(name.clone()),
        };
        match held(self.supervisor)?.call(&request).map_err(problem)? {
            supervisor::Reply::Done => Ok(Reply::Done),
            supervisor::Reply::Refused(supervisor::Refusal::Kernel(error)) => Err(Problem::Kernel(error)),
            supervisor::Reply::Refused(_) => Err(Problem::Refused),
            _ => Err(Problem::Unexpected),
        }
    }

    fn servers(&self) -> Result<Reply, Problem> {
        let request = supervisor::Request::List { from: 0 };
        match held(self.supervisor)?.call_patiently(&request, None).map_err(problem)? {
            supervisor::Reply::Servers(servers) => Ok(Reply::Servers(servers)),
            _ => Err(Problem::Unexpected),
        }
    }

    fn last_fault(&self, name: &Name) -> Result<Reply, Problem> {
        let request = supervisor::Request::Fault(name.clone());
        match held(self.supervisor)?.call_patiently(&request, None).map_err(problem)? {
            supervisor::Reply::Fault(report) => Ok(Reply::Fault(report)),
            supervisor::Reply::Refused(_) => Err(Problem::Refused),
            _ => Err(Problem::Unexpected),
        }
    }

    fn kill(&self, wanted: &Name) -> Result<Reply, Problem> {
        let domains = self.inspect.domains().map_while(Result::ok);
        let mut running = domains.filter(|domain| domain.state == DomainState::Running);
        let domain = running.find(|domain| domain.name == *wanted);
        let id = domain.ok_or(Problem::Kernel(Error::NotFound))?.id;
        self.self_test.run(SelfTestOp::Kill, [u64::from(id), 0, 0, 0, 0]).map_err(Problem::Kernel)?;
        Ok(Reply::Done)
    }

    fn doom(&self, moment: supervisor::Moment, death: supervisor::Death) -> Result<Reply, Problem> {
        let is_now = moment == supervisor::Moment::Now;
        match held(self.supervisor)?.call(&supervisor::Request::Die(moment, death)) {
            Ok(supervisor::Reply::Done) if !is_now => Ok(Reply::Done),
            Err(CallError::Failed(Error::PeerDiedMidCall)) if is_now => Ok(Reply::Done),
            Ok(supervisor::Reply::Refused(_)) => Err(Problem::Refused),
            Ok(_) => Err(Problem::Unexpected),
            Err(error) => Err(problem(error)),
        }
    }

    fn crime(&self, wanted: &Name) -> Result<Reply, Problem> {
        let crime = adversary::find(wanted).ok_or(Problem::UnknownCrime)?;
        let judge = self.judge.as_ref().ok_or_else(|| Problem::Lacking(name(adversary::SERVER)))?;
        let trial = judge.judge(crime).map_err(|failure| match failure {
            Failure::Kernel(error) => Problem::Kernel(error),
            Failure::Call(error) => problem(error),
            Failure::UnknownCrime => Problem::UnknownCrime,
            Failure::Refused => Problem::Refused,
            Failure::NoAim => Problem::Unexpected,
        })?;
        Ok(Reply::Crime(trial.consequence))
    }
}

/// The client, if the manifest gives one.
fn held<P: Protocol>(client: Option<Client<P>>) -> Result<Client<P>, Problem> {
    client.ok_or_else(|| Problem::Lacking(name(P::NAME)))
}

pub(crate) fn problem(error: CallError) -> Problem {
    match error {
        CallError::Failed(error) | CallError::Refused(error) => Problem::Kernel(error),
        CallError::Killer(_) => Problem::Kernel(Error::PeerDiedMidCall),
        CallError::BadReply => Problem::Unexpected,
    }
}

fn encoded(number: u32, reply: Reply) -> Vec<u8> {
    let mut bytes = vec![0; MAX_BYTES];
    let message = Answered { number, reply };
    let used = wire::encode(&message, &mut bytes).or_else(|_| {
        let reply = Reply::Failed(Problem::Kernel(Error::TooLarge));
        wire::encode(&Answered { number, reply }, &mut bytes)
    });
    bytes.truncate(used.unwrap_or(0));
    bytes
}
