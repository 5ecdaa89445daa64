//! The servers that `init` started or will start, and their domains.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use init::backoff::Backoff;
use init::grants::{self, Grant, Source};
use libpks::abi::fault::FaultReport;
use libpks::abi::inspect::{DomainState, PowerAction};
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::manifest::{Manifest, RestartPolicy, ServerEntry};
use libpks::proto::supervisor::Condition;
use libpks::rt::domain::{DomainStatus, Plan};
use libpks::rt::log::{error, info, warn};
use libpks::rt::{
    AnyCap, BootModule, Capability, Domain, Endpoint, Env, EnvError, Error, Handle, Instant, IoPorts,
    IrqLine, Notification, Owned, Power, Quota,
};

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
    /// When it is started again.
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
}

/// All servers of the manifest but `init` itself, in its order: position n here is n + 1 there.
pub(crate) struct Fleet {
    env: Env,
    pub(crate) manifest: Manifest,
    endpoints: BTreeMap<String, Endpoint>,
    ended: Notification,
    servers: Vec<Managed>,
}

impl Fleet {
    /// Makes the endpoints; all servers are due.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(env: Env, manifest: Manifest, ended: Notification) -> Result<Self, Error> {
        let names = manifest.servers.iter().flat_map(|entry| &entry.provides);
        let endpoints = names
            .map(|name| Ok((name.clone(), Endpoint::create()?.keep())))
            .collect::<Result<BTreeMap<_, _>, Error>>()?;
        let due = || Managed { due: Some(Instant::default()), ..Managed::default() };
        let servers = manifest.servers.iter().skip(1).map(|_| due()).collect();
        Ok(Self { env, manifest, endpoints, ended, servers })
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
            Ok(_) => info!("`{name}` started"),
            Err(error) => error!("`{name}` does not start: {error}"),
        }
        if let Some(server) = self.servers.get_mut(n) {
            server.due = None;
            server.started = Instant::now();
            server.refused = outcome.as_ref().err().map(StartError::cause);
        }
        let domain = outcome?;
        if let Some(server) = self.servers.get_mut(n) {
            server.domain = Some(domain);
        }
        Ok(())
    }

    /// Stops server `n` and leaves it so. Tells whether it ran.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn stop(&mut self, n: usize) -> Result<bool, Error> {
        let Some(server) = self.servers.get_mut(n) else { return Err(Error::NotFound) };
        server.due = None;
        server.backoff.reset();
        let Some(domain) = &server.domain else { return Ok(false) };
        domain.stop()?;
        server.domain = None;
        Ok(true)
    }

    /// Counts a start by hand as a restart.
    pub(crate) fn count_restart(&mut self, n: usize) {
        if let Some(server) = self.servers.get_mut(n) {
            server.restarts = server.restarts.saturating_add(1);
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
        server.domain = None;
        if status.fault.is_some() {
            server.fault = status.fault;
        }
        self.apply_policy(n, status.state);
    }

    fn apply_policy(&mut self, n: usize, state: DomainState) {
        let Some(entry) = self.manifest.servers.get(n + 1) else { return };
        let Some(server) = self.servers.get_mut(n) else { return };
        let name = &entry.name;
        match (state, entry.restart) {
            (DomainState::Faulted, RestartPolicy::Restart) => {
                let wait = server.backoff.next(Instant::now() - server.started);
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

    fn launch(&mut self, n: usize) -> Result<Owned<Domain>, StartError> {
        let manifest = &self.manifest;
        let Some(entry) = manifest.servers.get(n + 1) else {
            return Err(StartError::Domain(Error::NotFound));
        };
        let Some(server) = self.servers.get_mut(n) else { return Err(StartError::Domain(Error::NotFound)) };
        let image: BootModule = self.env.capability(&alloc::format!("module:{}", entry.name))?;
        let plan = Plan {
            name: &entry.name,
            image,
            quota: self.env.capability::<Quota>("quota")?,
            quota_bytes: entry.memory,
            priority: entry.priority,
        };
        let domain = Domain::create(&plan).map_err(StartError::Domain)?;
        domain.on_end(self.ended, 1).map_err(StartError::Domain)?;
        let mut info = Box::new(StartInfo {
            name: libpks::abi::name(&entry.name),
            args: fitting(&grants::arguments(entry, self.env.args())).map_err(StartError::Start)?,
            caps: Default::default(),
        });
        for grant in grants::of_server(manifest, n + 1) {
            let cap = source(&self.env, &self.endpoints, &mut server.devices, &grant)?;
            let handle =
                give(&domain, cap, &grant).map_err(|error| StartError::Grant(grant.name.clone(), error))?;
            let named = fitting(&grant.name).map(|name| NamedCap { name, handle: handle.raw() });
            let pushed = named.and_then(|named| info.caps.push(named).map_err(|_| Error::TooLarge));
            pushed.map_err(|error| StartError::Grant(grant.name, error))?;
        }
        domain.start(entry.stack, &info).map_err(StartError::Start)?;
        Ok(domain)
    }
}

fn fitting<const N: usize>(text: &str) -> Result<heapless::String<N>, Error> {
    text.try_into().map_err(|_| Error::TooLarge)
}

/// Grants what the source has of the rights that are wanted.
fn give(domain: &Domain, cap: AnyCap, grant: &Grant<'_>) -> Result<Handle, Error> {
    let rights = grant.rights & cap.identify()?.rights;
    domain.grant(cap, rights, grant.badge)
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
