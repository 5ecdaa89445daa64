//! The servers that `init` started or will start, and their domains.

use crate::doom;
use crate::heirloom::{Heirloom, HeirloomError};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use init::backoff::Backoff;
use init::grants::{self, Grant, Source};
use init::ledger::{Ledger, Record};
use libpks::abi::fault::FaultReport;
use libpks::abi::inspect::{DomainState, PowerAction};
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::manifest::{Manifest, PortValue, RestartPolicy, ServerEntry, Tier};
use libpks::placement;
use libpks::proto::supervisor::{Condition, Moment};
use libpks::rt::domain::{DomainStatus, Placement, Plan};
use libpks::rt::log::{error, info, warn};
use libpks::rt::{
    AnyCap, CapRights, Capability, Domain, Endpoint, Env, EnvError, Error, Handle, Inspect, Instant, IoPorts,
    IrqLine, Notification, Owned, Power, Quota,
};
use libpks::sharing::{self, ROOM};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// `init` was not given what the server needs.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused the domain.
    #[error("no domain: {0}")]
    Domain(Error),
    /// The kernel refused a capability.
    #[error("capability `{0}`: {1}")]
    Grant(String, Error),
    /// The kernel did not start the domain.
    #[error("not started: {0}")]
    Start(Error),
}

impl StartError {
    /// What the kernel said, as far as it was the kernel.
    pub(crate) fn cause(&self) -> Error {
        match self {
            Self::Env(EnvError::Lost { error, .. }) => *error,
            Self::Env(_) => Error::NotFound,
            Self::Domain(error) | Self::Grant(_, error) | Self::Start(error) => *error,
        }
    }
}

/// A server.
#[derive(Default)]
pub(crate) struct Managed {
    domain: Option<Owned<Domain>>,
    /// Why it could not be started.
    refused: Option<Error>,
    /// When it is started again. With a domain: that one is to be stopped before.
    due: Option<Instant>,
    started: Instant,
    backoff: Backoff,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// The fault that ended it last.
    pub(crate) fault: Option<Box<FaultReport>>,
    /// Its ports and interrupt lines, which stay with `init` while no domain of it lives.
    devices: BTreeMap<String, AnyCap>,
}

impl Managed {
    pub(crate) fn condition(&self) -> Condition {
        match (&self.domain, self.due, self.refused) {
            (Some(_), ..) => Condition::Running,
            (_, Some(_), _) => Condition::Waiting,
            (_, _, Some(error)) => Condition::Refused(error),
            _ => Condition::Stopped,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.domain.is_some()
    }

    /// A server that the supervisor before knew, or one that is new and due. A domain of it that lives goes on living.
    fn inherited(record: Option<Record>, ended: Notification) -> Self {
        let Some(record) = record else {
            return Self { due: Some(Instant::default()), ..Self::default() };
        };
        let cap = |handle| AnyCap::from_handle(Handle::from_raw(handle));
        let mut server = Self {
            domain: record.domain.map(|handle| Owned::new(Domain::from_handle(Handle::from_raw(handle)))),
            refused: record.refused,
            due: record.due_ns.map(Instant::from_nanos),
            started: Instant::from_nanos(record.started_ns),
            backoff: record.backoff,
            restarts: record.restarts,
            fault: record.fault,
            devices: record.devices.into_iter().map(|(name, handle)| (name, cap(handle))).collect(),
        };
        let Some(domain) = &server.domain else { return server };
        match domain.status().map(|status| status.state) {
            // It was never started, or is to be started anew, or is not there any more.
            Ok(DomainState::Created) | Err(_) => server.renew(),
            Ok(DomainState::Running) if server.due.is_some() => server.renew(),
            // Told at once if it has ended meanwhile.
            Ok(_) if domain.on_end(ended, ENDED).is_err() => server.renew(),
            Ok(_) => {}
        }
        server
    }

    /// Lets go of the domain, which ends if it lives, and is due.
    fn renew(&mut self) {
        self.domain = None;
        self.due = Some(Instant::default());
    }

    fn record(&self, name: &str) -> Record {
        Record {
            name: name.into(),
            domain: self.domain.as_ref().map(|domain| domain.handle().raw()),
            due_ns: self.due.map(Instant::as_nanos),
            started_ns: self.started.as_nanos(),
            backoff: self.backoff,
            restarts: self.restarts,
            refused: self.refused,
            fault: self.fault.clone(),
            devices: self.devices.iter().map(|(name, cap)| (name.clone(), cap.handle().raw())).collect(),
        }
    }
}

/// The notification that tells of ends has these bits set.
const ENDED: u64 = 1;

/// All servers of the manifest but `init` itself, in its order: position n here is n + 1 there.
pub(crate) struct Fleet {
    env: Env,
    pub(crate) manifest: Manifest,
    /// By place in the manifest: which servers are to be in one view; 0 is that of `init`.
    views: Vec<usize>,
    endpoints: BTreeMap<String, Endpoint>,
    ended: Notification,
    servers: Vec<Managed>,
    heirloom: Heirloom,
    /// The fault by which the supervisor before ended.
    own_fault: Option<Box<FaultReport>>,
}

impl Fleet {
    /// Takes over what the supervisor before has left, or begins: then all servers are due.
    ///
    /// # Errors
    /// What the kernel says, and a ledger that cannot be read.
    pub(crate) fn new(env: Env, manifest: Manifest) -> Result<Self, HeirloomError> {
        let (heirloom, ledger) = Heirloom::open(&env)?;
        let is_first = ledger.is_none();
        let mut ledger = ledger.unwrap_or_default();
        let ended = match ledger.ended {
            0 => Notification::create()?.keep(),
            handle => Notification::from_handle(Handle::from_raw(handle)),
        };
        let endpoints = all_endpoints(&manifest, &ledger)?;
        let servers = manifest.servers.iter().skip(1);
        let servers = servers.map(|entry| Managed::inherited(ledger.take(&entry.name), ended)).collect();
        let own_fault = if is_first { None } else { own_last_fault(&env).or(ledger.own_fault) };
        // The kernel would not have started with a value that is none.
        let room = sharing::room(env.arg("views")).unwrap_or(ROOM);
        let views = placement::views(&manifest, usize::from(room));
        let mut fleet = Self { env, manifest, views, endpoints, ended, servers, heirloom, own_fault };
        fleet.write_down();
        Ok(fleet)
    }

    /// The notification that tells of ends.
    pub(crate) fn ended(&self) -> Notification {
        self.ended
    }

    /// How often the supervisor itself was started again.
    pub(crate) fn own_restarts(&self) -> u32 {
        self.env.restarts()
    }

    /// The fault by which the supervisor before ended.
    pub(crate) fn own_fault(&self) -> Option<&FaultReport> {
        self.own_fault.as_deref()
    }

    /// Leaves to the next supervisor what it must know.
    fn write_down(&mut self) {
        let named = |(name, handle): (&String, Handle)| (name.clone(), handle.raw());
        let servers = self.manifest.servers.iter().skip(1).zip(&self.servers);
        let mut ledger = Ledger {
            ended: self.ended.handle().raw(),
            endpoints: self.endpoints.iter().map(|(name, cap)| named((name, cap.handle()))).collect(),
            servers: servers.map(|(entry, server)| server.record(&entry.name)).collect(),
            own_fault: self.own_fault.clone(),
        };
        self.heirloom.write(&mut ledger);
    }

    pub(crate) fn endpoint(&self, name: &str) -> Option<Endpoint> {
        self.endpoints.get(name).copied()
    }

    pub(crate) fn entry(&self, n: usize) -> Option<&ServerEntry> {
        self.manifest.servers.get(n + 1)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.manifest.servers.iter().skip(1).position(|entry| entry.name == name)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = (&ServerEntry, &Managed)> {
        self.manifest.servers.iter().skip(1).zip(&self.servers)
    }

    pub(crate) fn server(&self, n: usize) -> Option<&Managed> {
        self.servers.get(n)
    }

    /// Deals with domains that have ended and starts what is due. Tells when the next is due.
    pub(crate) fn attend(&mut self) -> Option<Instant> {
        for n in 0..self.servers.len() {
            self.check(n);
            if self.servers.get(n).and_then(|server| server.due).is_some_and(|due| due <= Instant::now()) {
                // The failure is in the log and in the server's condition.
                let _ = self.start(n);
            }
        }
        self.servers.iter().filter_map(|server| server.due).min()
    }

    /// Starts server `n`.
    ///
    /// # Errors
    /// [`StartError`], which is logged and kept as the server's condition too.
    pub(crate) fn start(&mut self, n: usize) -> Result<(), StartError> {
        let outcome = self.launch(n);
        let name = self.entry(n).map_or("?", |entry| &entry.name);
        match &outcome {
            Ok(()) => info!("`{name}` started"),
            Err(error) => error!("`{name}` does not start: {error}"),
        }
        if let Some(server) = self.servers.get_mut(n) {
            server.due = None;
            server.started = Instant::now();
            server.refused = outcome.as_ref().err().map(StartError::cause);
            if outcome.is_err() {
                server.domain = None;
            }
        }
        doom::strike(Moment::Started);
        self.write_down();
        outcome
    }

    /// Stops server `n` and leaves it so. Tells whether it ran.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn stop(&mut self, n: usize) -> Result<bool, Error> {
        let server = self.servers.get_mut(n).ok_or(Error::NotFound)?;
        server.due = None;
        server.backoff.reset();
        let ran = self.halt(n)?;
        self.write_down();
        Ok(ran)
    }

    /// Stops server `n` if it runs, and starts it.
    ///
    /// # Errors
    /// What the kernel says, and as [`Fleet::start`].
    pub(crate) fn restart(&mut self, n: usize) -> Result<(), StartError> {
        let server = self.servers.get_mut(n).ok_or(StartError::Domain(Error::NotFound))?;
        server.backoff.reset();
        server.restarts = server.restarts.saturating_add(1);
        // Whoever comes after this supervisor finishes what was begun.
        server.due = Some(Instant::now());
        self.write_down();
        self.halt(n).map_err(StartError::Domain)?;
        doom::strike(Moment::Between);
        self.start(n)
    }

    /// Ends the domain of server `n`, if it has one, and quiets its device.
    fn halt(&mut self, n: usize) -> Result<bool, Error> {
        let server = self.servers.get_mut(n).ok_or(Error::NotFound)?;
        let Some(domain) = &server.domain else { return Ok(false) };
        domain.stop()?;
        server.domain = None;
        self.quiesce(n);
        Ok(true)
    }

    /// Puts the device of a server whose domain has ended into a state in which it does nothing by itself. Its line is
    /// masked since the domain's end.
    fn quiesce(&self, n: usize) {
        let Some((entry, server)) = self.entry(n).zip(self.servers.get(n)) else { return };
        for PortValue { port, value } in &entry.quiesce {
            let range = entry.ports.iter().find(|range| (range.from..=range.to).contains(port));
            let cap = range.and_then(|range| server.devices.get(&grants::ports_name(range)));
            let written = match cap {
                Some(cap) => IoPorts::from_handle(cap.handle()).write(*port, 1, u32::from(*value)),
                // It was never given any.
                None => Ok(()),
            };
            if let Err(error) = written {
                warn!("`{}`: port {port:#x} cannot be written: {error}", entry.name);
            }
        }
    }

    /// Looks whether the domain of server `n` has ended, and applies the policy if so.
    fn check(&mut self, n: usize) {
        let Some(server) = self.servers.get_mut(n) else { return };
        let Some(domain) = &server.domain else { return };
        let status = match domain.status() {
            Ok(DomainStatus { state: DomainState::Created | DomainState::Running, .. }) => return,
            Ok(status) => status,
            Err(error) => {
                let name = self.manifest.servers.get(n + 1).map_or("?", |entry| &entry.name);
                return warn!("cannot tell how `{name}` is: {error}");
            }
        };
        doom::strike(Moment::Found);
        let ended = server.domain.take();
        if status.fault.is_some() {
            server.fault = status.fault;
        }
        self.quiesce(n);
        self.apply_policy(n, status.state);
        self.write_down();
        // Only now: until it is written down what was made of its end, the next supervisor could ask it again.
        drop(ended);
    }

    fn apply_policy(&mut self, n: usize, state: DomainState) {
        let Some(entry) = self.manifest.servers.get(n + 1) else { return };
        let Some(server) = self.servers.get_mut(n) else { return };
        let name = &entry.name;
        match (state, entry.restart) {
            (DomainState::Faulted, RestartPolicy::Restart) => {
                let wait = server.backoff.next(Instant::now() - server.started, entry.backoff);
                server.restarts = server.restarts.saturating_add(1);
                server.due = Some(Instant::after(wait));
                warn!("`{name}` faulted; restart {} in {} ms", server.restarts, wait.as_millis());
            }
            (DomainState::Faulted, RestartPolicy::Reboot) => {
                error!("`{name}` faulted; the machine is started again");
                let power = self.env.capability::<Power>("power");
                if let Err(error) = power.map(|power| power.act(PowerAction::Reboot)) {
                    error!("no restart of the machine: {error}");
                }
            }
            (DomainState::Faulted, RestartPolicy::Stop) => warn!("`{name}` faulted; it stays stopped"),
            _ => info!("`{name}` has ended"),
        }
    }

    fn launch(&mut self, n: usize) -> Result<(), StartError> {
        let entry = self.entry(n).ok_or(StartError::Domain(Error::NotFound))?.clone();
        let gifts = self.gifts(n)?;
        let plan = Plan {
            name: &entry.name,
            image: self.env.capability(&alloc::format!("module:{}", entry.name))?,
            quota: self.env.capability::<Quota>("quota")?,
            quota_bytes: entry.memory,
            priority: entry.priority,
            budget: entry.budget,
            overrun_ns: entry.overrun_ns,
            placement: self.placement(n, entry.tier),
        };
        let made = match Domain::create(&plan) {
            // Others have taken the keys of that view.
            Err(Error::KeysExhausted) if matches!(plan.placement, Placement::Beside(_)) => {
                Domain::create(&Plan { placement: Placement::Anywhere, ..plan })
            }
            made => made,
        };
        let server = self.servers.get_mut(n).ok_or(StartError::Domain(Error::NotFound))?;
        let domain = **server.domain.insert(made.map_err(StartError::Domain)?);
        server.due = None;
        let mut info = Box::new(StartInfo {
            name: libpks::abi::name(&entry.name),
            args: fitting(&grants::arguments(&entry, self.env.args())).map_err(StartError::Start)?,
            restarts: server.restarts,
            caps: Default::default(),
        });
        self.write_down();
        doom::strike(Moment::Made);
        domain.on_end(self.ended, ENDED).map_err(StartError::Domain)?;
        for gift in gifts {
            let given =
                gift.give(domain).and_then(|named| info.caps.push(named).map_err(|_| Error::TooLarge));
            given.map_err(|error| StartError::Grant(gift.name, error))?;
        }
        doom::strike(Moment::Granted);
        domain.start(entry.stack, &info).map_err(StartError::Start)
    }

    /// The view for server `n`: with those that it belongs to, if one of them lives.
    fn placement(&self, n: usize, tier: Tier) -> Placement {
        let Some(&view) = self.views.get(n + 1).filter(|&&view| view > 0 && tier == Tier::Keyed) else {
            return if tier == Tier::OwnView { Placement::Alone } else { Placement::Anywhere };
        };
        let mut beside =
            self.servers.iter().enumerate().filter(|(other, _)| self.views.get(other + 1) == Some(&view));
        match beside.find_map(|(_, server)| server.domain.as_ref()) {
            Some(domain) => Placement::Beside(**domain),
            None => Placement::Empty,
        }
    }

    /// What server `n` is to get, each with the capability that it is derived from.
    fn gifts(&mut self, n: usize) -> Result<Vec<Gift>, StartError> {
        let server = self.servers.get_mut(n).ok_or(StartError::Domain(Error::NotFound))?;
        let grants = grants::of_server(&self.manifest, n + 1);
        let gift = |grant: Grant<'_>| {
            let cap = source(&self.env, &self.endpoints, &mut server.devices, &grant)?;
            Ok(Gift { name: grant.name, cap, rights: grant.rights, badge: grant.badge })
        };
        grants.into_iter().map(gift).collect()
    }
}

/// A capability that a server is to get.
struct Gift {
    name: String,
    /// What it is derived from.
    cap: AnyCap,
    rights: CapRights,
    badge: u64,
}

impl Gift {
    /// Grants what the source has of the rights that are wanted.
    fn give(&self, domain: Domain) -> Result<NamedCap, Error> {
        let rights = self.rights & self.cap.identify()?.rights;
        let handle = domain.grant(self.cap, rights, self.badge)?;
        Ok(NamedCap { name: fitting(&self.name)?, handle: handle.raw() })
    }
}

/// The endpoints of the manifest: those that the supervisor before had, and new ones where it had none.
fn all_endpoints(manifest: &Manifest, ledger: &Ledger) -> Result<BTreeMap<String, Endpoint>, Error> {
    let names = manifest.servers.iter().flat_map(|entry| &entry.provides);
    let endpoint = |name: &String| match ledger.endpoints.iter().find(|(known, _)| known == name) {
        Some((_, handle)) => Ok(Endpoint::from_handle(Handle::from_raw(*handle))),
        None => Endpoint::create().map(Owned::keep),
    };
    names.map(|name| Ok((name.clone(), endpoint(name)?))).collect()
}

/// The newest fault of this domain that the kernel still knows.
fn own_last_fault(env: &Env) -> Option<Box<FaultReport>> {
    let inspect: Inspect = env.capability("inspect").ok()?;
    let mut reports = (0..).map_while(|n| inspect.fault(n).ok().flatten());
    reports.find(|report| report.domain_name == env.name()).map(Box::new)
}

fn fitting<const N: usize>(text: &str) -> Result<heapless::String<N>, Error> {
    text.try_into().map_err(|_| Error::TooLarge)
}

/// The capability that a grant is derived from. Ports and lines are derived once and kept.
fn source(
    env: &Env,
    endpoints: &BTreeMap<String, Endpoint>,
    devices: &mut BTreeMap<String, AnyCap>,
    grant: &Grant<'_>,
) -> Result<AnyCap, StartError> {
    let fail = |error| StartError::Grant(grant.name.clone(), error);
    if let Some(cap) = devices.get(&grant.name) {
        return Ok(*cap);
    }
    let device = match &grant.source {
        Source::Held(name) => return Ok(env.capability(name)?),
        Source::Endpoint(name) => {
            return endpoints.get(*name).map(|endpoint| any(*endpoint)).ok_or_else(|| fail(Error::NotFound));
        }
        Source::Ports(range) => {
            let all: IoPorts = env.capability("ports")?;
            any(all.range(range.from, range.to).map_err(fail)?.keep())
        }
        Source::Irq(line) => {
            let all: IrqLine = env.capability("irqs")?;
            any(all.line(u32::from(*line)).map_err(fail)?.keep())
        }
    };
    devices.insert(grant.name.clone(), device);
    Ok(device)
}

fn any(cap: impl Capability) -> AnyCap {
    AnyCap::from_handle(cap.handle())
}
