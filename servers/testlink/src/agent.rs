//! Carries out what the harness asks, as a client of the other servers.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::layout::{KERNEL_BASE, PAGE};
use libpks::abi::selftest::SelfTestOp;
use libpks::abi::{Error, Name, VERSION, name};
use libpks::pkey::{Pkey, pte_key};
use libpks::proto::Protocol;
use libpks::proto::adversary::{self, Adversary, Aim, Consequence, Crime};
use libpks::proto::ipc_test::{self, IpcTest};
use libpks::proto::pks_test::{self, Outcome, PksTest, Refusal, RunError, Verdict};
use libpks::proto::stress::{self, Stress};
use libpks::proto::supervisor::{self, Supervisor};
use libpks::proto::testlink::{self, Action, Answered, Asked, Closing, MAX_BYTES, Problem, Reply, Request};
use libpks::rt::{
    CallError, Capability, Client, Env, EnvError, Inspect, Instant, Offer, Region, SelfTest, time,
};
use libpks::wire;

/// How long a server may take until it answers again.
const RESTART: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// What the harness reads from QEMU's exit code.
const SUCCESS: u64 = 0x10;
const FAILURE: u64 = 0x11;
/// Pages of the kernel's image that are looked through.
const KERNEL_PAGES: u64 = 4096;
/// The bit that lets a page be written (Intel SDM vol. 3A, table 4-20).
const WRITABLE: u64 = 2;
/// What lies where crimes against this domain aim.
const INTACT: u64 = 0x7465_7374_6c69_6e6b;

/// What the test link can do, and what it has counted.
pub(crate) struct Agent {
    inspect: Inspect,
    self_test: SelfTest,
    pks_test: Option<Client<PksTest>>,
    ipc_test: Option<Client<IpcTest>>,
    supervisor: Option<Client<Supervisor>>,
    adversary: Option<Client<Adversary>>,
    stress: Option<Client<Stress>>,
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
            stress: env.client().ok(),
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
            Request::Domain { index } => {
                self.inspect.domain(u64::from(*index)).map(Reply::Domain).map_err(Problem::Kernel)
            }
            Request::Fault { index } => {
                self.inspect.fault(u64::from(*index)).map(Reply::Fault).map_err(Problem::Kernel)
            }
            Request::Server { name, action } => self.server(name, *action),
            Request::Crime { name } => self.crime(name),
            Request::Stress(session) => {
                let request = stress::Request::Run(*session);
                held(self.stress)?.call(&request).map(Reply::Stressed).map_err(problem)
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

    fn crime(&self, wanted: &Name) -> Result<Reply, Problem> {
        let crime = adversary::find(wanted).ok_or(Problem::UnknownCrime)?;
        let client = held(self.adversary)?;
        let variable = core::hint::black_box(INTACT);
        let region = Region::create(PAGE, None).map_err(Problem::Kernel)?;
        let target = self.target(crime, &variable, *region).ok_or(Problem::Unexpected)?;
        let asked_ns = Instant::now().as_nanos();
        let request = adversary::Request::Commit { name: name(crime.name), target };
        let offers = offer(crime.aim, *region);
        let consequence = match client.exchange(&request, offers.as_slice(), None).map(|(reply, _)| reply) {
            Ok(adversary::Reply::Refused(error)) => Consequence::Refused(error),
            Ok(adversary::Reply::Succeeded) if crime.aim.is_after_reply() => {
                // A loan has ended by itself.
                if crime.aim == Aim::RevokedRegion {
                    region.revoke().map_err(Problem::Kernel)?;
                }
                self.fault_at(target, asked_ns)?
            }
            Ok(adversary::Reply::Succeeded) => Consequence::Succeeded,
            Ok(adversary::Reply::UnknownCrime) => return Err(Problem::UnknownCrime),
            Err(CallError::Failed(Error::PeerDiedMidCall)) => {
                let report = self.inspect.fault(0).map_err(Problem::Kernel)?;
                let report = report.filter(|report| report.time_ns >= asked_ns);
                report.map_or(Consequence::EndedUnreported, Consequence::Ended)
            }
            Err(error) => return Err(problem(error)),
        };
        // Whatever it says: what it aimed at must be as it was.
        let consequence =
            if core::hint::black_box(variable) == INTACT { consequence } else { Consequence::Succeeded };
        self.fresh_adversary(&client)?;
        Ok(Reply::Crime(consequence))
    }

    /// Waits for a fault at an address, later than `since_ns`.
    fn fault_at(&self, address: u64, since_ns: u64) -> Result<Consequence, Problem> {
        let until = Instant::after(RESTART);
        while Instant::now() < until {
            let report = self.inspect.fault(0).map_err(Problem::Kernel)?;
            if let Some(report) = report.filter(|new| new.time_ns >= since_ns && new.address == address) {
                return Ok(Consequence::Ended(report));
            }
            let _ = time::sleep(LOOK);
        }
        Ok(Consequence::Succeeded)
    }

    /// The address that a crime is aimed at.
    fn target(&self, crime: &Crime, variable: &u64, region: Region) -> Option<u64> {
        match crime.aim {
            Aim::Nothing => Some(0),
            Aim::Caller => Some((&raw const *variable).expose_provenance() as u64),
            Aim::KernelText => Some(KERNEL_BASE),
            Aim::KernelData => self.kernel_page(Pkey::KERNEL, WRITABLE),
            Aim::OpenConstants => self.kernel_page(Pkey::OPEN, 0),
            Aim::ReadOnlyRegion | Aim::RevokedRegion | Aim::LentRegion => {
                region.info().ok().map(|info| info.address)
            }
        }
    }

    /// The first page of the kernel's image under this key that is writable or is not.
    fn kernel_page(&self, key: Pkey, writable: u64) -> Option<u64> {
        let is_so = |address: &u64| {
            let leaf = self.self_test.run(SelfTestOp::WalkPageTable, [*address, 0, 0, 0, 0]);
            leaf.is_ok_and(|[entry, ..]| entry & WRITABLE == writable && pte_key(entry) == key)
        };
        (0..KERNEL_PAGES).map(|page| KERNEL_BASE + page * PAGE).find(is_so)
    }

    /// A new adversary for the next crime; what the last one left running ends.
    fn fresh_adversary(&self, client: &Client<Adversary>) -> Result<(), Problem> {
        self.server(&name(adversary::SERVER), Action::Restart)?;
        let until = Instant::after(RESTART);
        let nothing = adversary::Request::Commit { name: Name::new(), target: 0 };
        while Instant::now() < until {
            if let Ok(adversary::Reply::UnknownCrime) = client.call_until(&nothing, until) {
                return Ok(());
            }
            let _ = time::sleep(LOOK);
        }
        Err(Problem::Kernel(Error::TimedOut))
    }
}

/// The capability that goes with a crime on a region.
fn offer(aim: Aim, region: Region) -> Option<Offer> {
    match aim {
        Aim::ReadOnlyRegion => Some(Offer::copy(region).read_only()),
        Aim::RevokedRegion => Some(Offer::copy(region)),
        Aim::LentRegion => Some(Offer::lend(region)),
        Aim::Nothing | Aim::Caller | Aim::KernelData | Aim::KernelText | Aim::OpenConstants => None,
    }
}

/// The client, if the manifest gives one.
fn held<P: Protocol>(client: Option<Client<P>>) -> Result<Client<P>, Problem> {
    client.ok_or_else(|| Problem::Lacking(name(P::NAME)))
}

fn problem(error: CallError) -> Problem {
    match error {
        CallError::Failed(error) | CallError::Refused(error) => Problem::Kernel(error),
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
