//! The rows, by what they are about.

pub(crate) mod calls;
pub(crate) mod capabilities;
pub(crate) mod memory;
pub(crate) mod objects;
pub(crate) mod rings;
pub(crate) mod signals;
pub(crate) mod switching;

use alloc::boxed::Box;

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
            image: env.capability("module:bench")?,
            keys: env.capability("key-pool")?,
            priority: env.priority(),
        })
    }

    /// Makes a domain from this image, less urgent than this one.
    fn domain(&self, placement: Placement) -> Result<Owned<Domain>, Error> {
        Domain::create(&Plan {
            name: "peer",
            image: self.image,
            quota: self.quota,
            quota_bytes: PEER_BYTES,
            priority: self.priority.saturating_sub(1),
            budget: Budget::DEFAULT,
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

    /// Starts the peer.
    fn peer(&self, placement: Placement) -> Result<Peer, Error> {
        let domain = self.domain(placement)?;
        let here = Notification::create()?;
        let mut info = Self::start_info(*domain, "role=peer", *here)?;
        let endpoints = [Endpoint::create()?, Endpoint::create()?, Endpoint::create()?];
        for (endpoint, called) in endpoints.iter().zip(ENDPOINTS) {
            let handle = domain.grant(**endpoint, CapRights::SERVE, 0)?.raw();
            info.caps.push(NamedCap { name: name(called), handle }).map_err(|_| Error::TooLarge)?;
        }
        domain.start(STACK, &info)?;
        here.wait(None)?;
        Ok(Peer { _domain: domain, endpoints })
    }
}

/// The other domain, which ends with this.
struct Peer {
    _domain: Owned<Domain>,
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
