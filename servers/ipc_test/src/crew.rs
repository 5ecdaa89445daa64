//! Making helpers, and calling them from threads.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use libpks::abi::fault::{FaultKind, FaultReport};
use libpks::abi::inspect::{DomainInfo, DomainState};
use libpks::abi::name;
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::budget::{Budget, CpuTime, OVERRUN_DEFAULT_NS};
use libpks::rt::domain::{Placement, Plan};
use libpks::rt::endpoint::Received;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::{
    AnyCap, BootModule, CapRights, Capability, Client, Domain, Endpoint, Env, EnvError, Error, Inspect,
    Instant, IoPorts, IrqLine, KernelLog, KeyPool, Notification, Offer, Owned, Quota, SelfTest, time,
};

use crate::errand::{Errand, Reply, Request};
use crate::helper::{HERE, cause};
use libpks::proto::ipc_test::SERVER;
use libpks::proto::pks_test::checks::{Run, Stop};

/// How long anything may take, three other CPUs being emulated beside.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
/// How long one looks whether something does not happen.
pub(crate) const WHILE: Duration = Duration::from_millis(30);
/// How long between two looks.
const LOOK: Duration = Duration::from_millis(5);
pub(crate) const STACK: u64 = 64 * 1024;
const HELPER_BYTES: u64 = 2 << 20;

/// How much of the CPUs a domain gets, and under which name it is found again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) name: &'static str,
    pub(crate) priority: u8,
    pub(crate) budget: Budget,
    pub(crate) overrun_ns: u64,
}

/// The capabilities that scenarios need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) quota: Quota,
    pub(crate) image: BootModule,
    pub(crate) inspect: Inspect,
    pub(crate) self_test: SelfTest,
    pub(crate) keys: KeyPool,
    pub(crate) ports: IoPorts,
    /// Of the clock that keeps the time of day, whose interrupts nobody else wants.
    pub(crate) clock_ports: IoPorts,
    pub(crate) clock_line: IrqLine,
    pub(crate) log: KernelLog,
    pub(crate) priority: u8,
    /// Where helpers are.
    placement: Placement,
}

impl Tools {
    pub(crate) fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            quota: env.capability("quota")?,
            image: env.capability("module:ipc_test")?,
            inspect: env.capability("inspect")?,
            self_test: env.capability("self-test")?,
            keys: env.capability("key-pool")?,
            ports: env.capability("ports:2e8")?,
            clock_ports: env.capability("ports:70")?,
            clock_line: env.capability("irq:8")?,
            log: env.capability("log")?,
            priority: env.priority(),
            placement: Placement::Anywhere,
        })
    }

    /// The same, with helpers in this domain's view, so that keys are shared with them.
    pub(crate) fn here(self) -> Self {
        self.placed(Placement::Here)
    }

    /// The same, with helpers somewhere else.
    pub(crate) fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// How many CPUs run.
    pub(crate) fn cpus(&self) -> Result<u32, Error> {
        Ok(self.inspect.system()?.cpus)
    }

    /// Bytes of the quota that this domain uses.
    pub(crate) fn used_bytes(&self) -> Result<u64, Error> {
        self.running(SERVER).map(|domain| domain.used_bytes)
    }

    /// What helpers get that are about something else.
    pub(crate) const fn means(&self) -> Means {
        Means {
            name: "helper",
            priority: self.priority,
            budget: Budget::DEFAULT,
            overrun_ns: OVERRUN_DEFAULT_NS,
        }
    }

    /// Bytes of memory that are left for domains, found by making domains of many sizes.
    pub(crate) fn budget(&self) -> Result<u64, Error> {
        let (mut fits, mut exceeds) = (HELPER_BYTES, 1 << 40);
        while fits + 1 < exceeds {
            let middle = fits.midpoint(exceeds);
            if self.fits(middle)? { fits = middle } else { exceeds = middle }
        }
        Ok(fits)
    }

    /// Whether so many bytes are left, and not one more.
    pub(crate) fn is_budget(&self, bytes: u64) -> Result<bool, Error> {
        Ok(self.fits(bytes)? && !self.fits(bytes + 1)?)
    }

    fn fits(&self, bytes: u64) -> Result<bool, Error> {
        match Domain::create(&Plan { quota_bytes: bytes, ..self.plan(self.means()) }) {
            Ok(_) => Ok(true),
            Err(Error::QuotaExceeded) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn plan(&self, means: Means) -> Plan<'static> {
        let Means { name, priority, budget, overrun_ns } = means;
        let Self { image, quota, placement, .. } = *self;
        Plan { name, image, quota, quota_bytes: HELPER_BYTES, priority, budget, overrun_ns, placement }
    }

    /// Makes a domain, not started, with the capabilities of `grants`.
    pub(crate) fn make(&self, arguments: &str, grants: &[Grant]) -> Result<Unborn, Error> {
        self.make_with(self.means(), arguments, grants)
    }

    /// The same with means of its own.
    pub(crate) fn make_with(&self, means: Means, arguments: &str, grants: &[Grant]) -> Result<Unborn, Error> {
        let domain = Domain::create(&self.plan(means))?;
        let args = arguments.try_into().map_err(|_| Error::TooLarge)?;
        let mut info =
            Box::new(StartInfo { name: name("helper"), args, restarts: 0, caps: Default::default() });
        for &(granted, capability, rights) in grants {
            let handle = domain.grant(capability, rights, 0)?.raw();
            info.caps.push(NamedCap { name: name(granted), handle }).map_err(|_| Error::TooLarge)?;
        }
        Ok(Unborn { domain, info })
    }

    /// Starts a domain with the capabilities of `grants`.
    pub(crate) fn start(&self, arguments: &str, grants: &[Grant]) -> Result<Owned<Domain>, Error> {
        self.start_with(self.means(), arguments, grants)
    }

    /// The same with means of its own.
    pub(crate) fn start_with(
        &self,
        means: Means,
        arguments: &str,
        grants: &[Grant],
    ) -> Result<Owned<Domain>, Error> {
        let Unborn { domain, info } = self.make_with(means, arguments, grants)?;
        domain.start(STACK, &info)?;
        Ok(domain)
    }

    /// The CPU time of the domain that runs under a name.
    pub(crate) fn cpu_time(&self, name: &str) -> Result<CpuTime, Error> {
        self.running(name).map(|domain| domain.cpu)
    }

    /// How many calls the domain that runs under a name has accepted.
    pub(crate) fn calls_served(&self, name: &str) -> Result<u64, Error> {
        self.running(name).map(|domain| domain.calls)
    }

    pub(crate) fn running(&self, name: &str) -> Result<DomainInfo, Error> {
        for domain in self.inspect.domains() {
            let domain = domain?;
            if domain.name == name && domain.state == DomainState::Running {
                return Ok(domain);
            }
        }
        Err(Error::NotFound)
    }

    /// What stops a domain at memory of this one: in its view a key does, in another the view itself.
    pub(crate) fn wall(&self, domain: u32) -> Result<FaultKind, Error> {
        let own = self.running("ipc_test")?.view;
        for it in self.inspect.domains() {
            let it = it?;
            if it.id == domain {
                return Ok(if it.view == own { FaultKind::ProtectionKey } else { FaultKind::OtherView });
            }
        }
        Err(Error::NotFound)
    }

    /// Runs `body` in a thread.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Error> {
        spawn(STACK, self.priority, body)
    }
}

/// A capability for a domain: its name there, what, and with which rights.
pub(crate) type Grant<'a> = (&'a str, AnyCap, CapRights);

pub(crate) fn grant<'a>(name: &'a str, capability: impl Capability, rights: CapRights) -> Grant<'a> {
    (name, AnyCap::from_handle(capability.handle()), rights)
}

/// A domain that has not started.
pub(crate) struct Unborn {
    pub(crate) domain: Owned<Domain>,
    pub(crate) info: Box<StartInfo>,
}

/// A helper that runs errands. Dropping it ends it.
pub(crate) struct Helper {
    pub(crate) tools: Tools,
    pub(crate) means: Means,
    pub(crate) domain: Owned<Domain>,
    pub(crate) endpoint: Owned<Endpoint>,
    /// Where it says that it is here.
    pub(crate) note: Owned<Notification>,
    /// Where it waits.
    pub(crate) gate: Owned<Notification>,
}

/// A call in a thread of its own.
pub(crate) type Pending = JoinHandle<Result<Reply, Error>>;

impl Helper {
    /// A helper with one activation that calls nobody.
    pub(crate) fn new(tools: &Tools) -> Run<Self> {
        Self::serving(tools, Endpoint::create()?, 1, None)
    }

    /// A helper at an endpoint, with so many activations, that calls `next`.
    pub(crate) fn serving(
        tools: &Tools,
        endpoint: Owned<Endpoint>,
        activations: u32,
        next: Option<Endpoint>,
    ) -> Run<Self> {
        Self::serving_with(tools, tools.means(), endpoint, activations, next)
    }

    /// The same with means of its own.
    pub(crate) fn serving_with(
        tools: &Tools,
        means: Means,
        endpoint: Owned<Endpoint>,
        activations: u32,
        next: Option<Endpoint>,
    ) -> Run<Self> {
        let (note, gate) = (Notification::create()?, Notification::create()?);
        let domain = Self::domain(tools, means, *endpoint, activations, next, (*note, *gate))?;
        let helper = Self { tools: *tools, means, domain, endpoint, note, gate };
        helper.expect(&Request::Badge, &Reply::Word(0))?;
        Ok(helper)
    }

    fn domain(
        tools: &Tools,
        means: Means,
        endpoint: Endpoint,
        activations: u32,
        next: Option<Endpoint>,
        (note, gate): (Notification, Notification),
    ) -> Result<Owned<Domain>, Error> {
        let mut grants: heapless::Vec<Grant<'_>, 5> = heapless::Vec::new();
        let all = [
            Some(grant("serve", endpoint, CapRights::SERVE)),
            Some(grant("note", note, CapRights::SIGNAL)),
            Some(grant("gate", gate, CapRights::WAIT)),
            next.map(|next| grant("next", next, CapRights::CALL)),
        ];
        grants.extend(all.into_iter().flatten());
        let arguments: String = format!("role=server activations={activations} stack={STACK}");
        tools.start_with(means, &arguments, &grants)
    }

    /// Another domain in its place, at the same endpoint.
    pub(crate) fn replace(&mut self) -> Run {
        self.domain =
            Self::domain(&self.tools, self.means, *self.endpoint, 1, None, (*self.note, *self.gate))?;
        Ok(())
    }

    pub(crate) fn client(&self) -> Client<Errand> {
        Client::new(*self.endpoint)
    }

    /// Has an errand run.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Error> {
        self.client().call_until(request, Instant::after(PATIENCE)).map_err(cause)
    }

    /// Has an errand run, with capabilities.
    pub(crate) fn ask_with(&self, request: &Request, offers: &[Offer]) -> Result<Reply, Error> {
        let until = Some(Instant::after(PATIENCE));
        self.client().exchange(request, offers, until).map(|(reply, _)| reply).map_err(cause)
    }

    /// Has an errand run, with capabilities there and back.
    pub(crate) fn trade(&self, request: &Request, offers: &[Offer]) -> Result<(Reply, Received), Error> {
        self.client().exchange(request, offers, Some(Instant::after(PATIENCE))).map_err(cause)
    }

    /// Has an errand run that must give this.
    #[track_caller]
    pub(crate) fn expect(&self, request: &Request, expected: &Reply) -> Run {
        let reply = self.ask(request)?;
        if reply == *expected {
            return Ok(());
        }
        Err(Stop::failed(format_args!("{request:?} gave {reply:?} instead of {expected:?}")))
    }

    /// Has an errand run by a thread of its own.
    pub(crate) fn send(&self, request: Request) -> Result<Pending, Error> {
        let client = self.client();
        self.tools.thread(move || client.call(&request).map_err(cause))
    }

    /// The same with capabilities.
    pub(crate) fn send_with<const N: usize>(
        &self,
        request: Request,
        offers: [Offer; N],
    ) -> Result<Pending, Error> {
        let client = self.client();
        self.tools
            .thread(move || client.exchange(&request, &offers, None).map(|(reply, _)| reply).map_err(cause))
    }

    /// Waits until the helper is where it waits.
    pub(crate) fn until_here(&self) -> Run {
        match self.note.wait(Some(Instant::after(PATIENCE)))? {
            HERE => Ok(()),
            bits => Err(Stop::failed(format_args!("a helper signalled {bits:#x}"))),
        }
    }

    /// Has a thread wait in the helper.
    pub(crate) fn occupy(&self) -> Run<Pending> {
        let pending = self.send(Request::Wait)?;
        self.until_here()?;
        Ok(pending)
    }

    /// Lets the helper go on.
    pub(crate) fn release(&self) -> Result<(), Error> {
        self.gate.signal(1)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.domain.stop();
    }
}

/// What a call in a thread gave.
pub(crate) fn outcome(pending: &Pending) -> Result<Result<Reply, Error>, Error> {
    pending.join(Some(Instant::after(PATIENCE)))
}

/// Whether a call in a thread is still under way after a while.
pub(crate) fn still_waits(pending: &Pending) -> bool {
    matches!(pending.thread().join(Some(Instant::after(WHILE))), Err(Error::TimedOut))
}

/// Which of two calls ends first, once one has, and the other.
pub(crate) fn sooner(calls: [&Pending; 2]) -> Run<[&Pending; 2]> {
    until("one of two calls ended", || {
        let ways = [calls, [calls[1], calls[0]]];
        Ok(ways.into_iter().find(|[call, _]| !still_waits(call)))
    })
}

/// Looks again and again until there is what is looked for.
pub(crate) fn until<T>(what: &str, mut look_fn: impl FnMut() -> Run<Option<T>>) -> Run<T> {
    let end = Instant::after(PATIENCE);
    while Instant::now() < end {
        if let Some(found) = look_fn()? {
            return Ok(found);
        }
        time::sleep(LOOK)?;
    }
    Err(Stop::failed(format_args!("waited in vain until {what}")))
}

/// Waits until a domain has ended, and tells how.
pub(crate) fn end_of(domain: Domain) -> Run<(DomainState, Option<Box<FaultReport>>)> {
    let note = Notification::create()?;
    domain.on_end(*note, 1)?;
    note.wait(Some(Instant::after(PATIENCE)))?;
    let status = domain.status()?;
    Ok((status.state, status.fault))
}
