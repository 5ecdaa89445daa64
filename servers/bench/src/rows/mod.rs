//! The rows, by what they are about.

pub(crate) mod calls;
pub(crate) mod capabilities;
pub(crate) mod crowd;
pub(crate) mod memory;
pub(crate) mod objects;
pub(crate) mod rings;
pub(crate) mod signals;
pub(crate) mod switching;

use alloc::boxed::Box;
use alloc::format;

use libpks::abi::name;
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::rt::domain::{Placement, Plan};
use libpks::rt::{
    BootModule, CapRights, Capability, Domain, Endpoint, Env, EnvError, Error, KeyPool, Notification, Owned,
    Quota,
};

use crate::STACK;
use crate::peer::{ENDPOINTS, HERE};

const PEER_BYTES: u64 = 2 << 20;
/// What a domain has that there may be thousands of.
const SMALL_BYTES: u64 = 512 << 10;

/// What the rows need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    quota: Quota,
    image: BootModule,
    keys: KeyPool,
    /// The most urgent that a thread here can be.
    pub(crate) priority: u8,
}

impl Tools {
    pub(crate) fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            quota: env.capability("quota")?,
            image: env.capability(&format!("module:{}", env.name()))?,
            keys: env.capability("key-pool")?,
            priority: env.priority(),
        })
    }

    /// Makes a domain from this image, less urgent than this one.
    fn domain(&self, placement: Placement) -> Result<Owned<Domain>, Error> {
        self.create("peer", PEER_BYTES, Budget::DEFAULT, placement)
    }

    /// Makes a domain from this image that there may be thousands of.
    pub(crate) fn small(&self, name: &'static str, placement: Placement) -> Result<Owned<Domain>, Error> {
        let budget = Budget::new(1_000_000, 60_000_000_000).map_err(|_| Error::InvalidArgument)?;
        self.create(name, SMALL_BYTES, budget, placement)
    }

    fn create(
        &self,
        name: &'static str,
        quota_bytes: u64,
        budget: Budget,
        placement: Placement,
    ) -> Result<Owned<Domain>, Error> {
        Domain::create(&Plan {
            name,
            image: self.image,
            quota: self.quota,
            quota_bytes,
            priority: self.priority.saturating_sub(1),
            budget,
            overrun_ns: OVERRUN_DEFAULT_NS,
            placement,
        })
    }

    /// What a domain is started with: its role, and where it says that it is there.
    fn start_info(domain: Domain, role: &str, here: Notification) -> Result<Box<StartInfo>, Error> {
        let args = role.try_into().map_err(|_| Error::TooLarge)?;
        let mut info =
            Box::new(StartInfo { name: name("peer"), args, restarts: 0, caps: Default::default() });
        let handle = domain.grant(here, CapRights::SIGNAL, 0)?.raw();
        info.caps.push(NamedCap { name: name(HERE), handle }).map_err(|_| Error::TooLarge)?;
        Ok(info)
    }

    /// Starts a domain that serves endpoints by these names, and waits until it says that it is there.
    pub(crate) fn start(
        &self,
        domain: Owned<Domain>,
        role: &str,
        serves: &[(&str, Endpoint)],
        here: Notification,
        stack: u64,
    ) -> Result<Owned<Domain>, Error> {
        let mut info = Self::start_info(*domain, role, here)?;
        for &(called, endpoint) in serves {
            let handle = domain.grant(endpoint, CapRights::SERVE, 0)?.raw();
            info.caps.push(NamedCap { name: name(called), handle }).map_err(|_| Error::TooLarge)?;
        }
        domain.start(stack, &info)?;
        here.wait(None)?;
        Ok(domain)
    }

    /// Starts the peer.
    fn peer(&self, placement: Placement) -> Result<Peer, Error> {
        let here = Notification::create()?;
        let endpoints = [Endpoint::create()?, Endpoint::create()?, Endpoint::create()?];
        let serves: [_; 3] = core::array::from_fn(|n| (ENDPOINTS[n], *endpoints[n]));
        let domain = self.start(self.domain(placement)?, "role=peer", &serves, *here, STACK)?;
        Ok(Peer { domain, endpoints })
    }
}

/// The other domain, which ends with this.
struct Peer {
    domain: Owned<Domain>,
    endpoints: [Owned<Endpoint>; 3],
}

/// A capability that nobody uses.
fn any() -> Result<Owned<Notification>, Error> {
    Notification::create()
}

/// Derives a capability with the same rights.
fn derive(from: Notification) -> Result<Owned<Notification>, Error> {
    from.mint(CapRights::SIGNAL, 0)
}
