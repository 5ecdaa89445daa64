//! What the domain was started with: its name, its arguments, and its capabilities by name.
#![forbid(unsafe_code)]

use super::client::Client;
use super::handle::{AnyCap, Capability};
use super::system::KernelLog;
use super::text::cut;
use super::{Endpoint, Notification, logger};
use crate::abi::Name;
use crate::abi::layout::STACK_DEFAULT_BYTES;
use crate::abi::start::{NamedCap, StartInfo};
use crate::args;
use crate::cap::{Handle, ObjectKind};
use crate::proto::Protocol;
use alloc::boxed::Box;
use core::str::FromStr;
use log::LevelFilter;

/// The name of the capability to the kernel's log.
const LOG: &str = "log";

/// Why a capability is not to be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvError {
    /// The domain was not given one of that name.
    #[error("no capability `{0}` was granted")]
    Missing(Name),
    /// It names something else.
    #[error("capability `{name}` names {found:?}, not {wanted:?}")]
    WrongKind {
        /// Its name.
        name: Name,
        /// What it names.
        found: ObjectKind,
        /// What was wanted.
        wanted: ObjectKind,
    },
    /// The kernel does not tell what it names.
    #[error("capability `{name}`: {error}")]
    Lost {
        /// Its name.
        name: Name,
        /// What the kernel said.
        error: super::Error,
    },
    /// The endpoint cannot be served.
    #[error("cannot serve `{name}`: {error}")]
    NotServed {
        /// Its name.
        name: Name,
        /// What the kernel said.
        error: super::Error,
    },
}

/// What the domain was started with.
#[derive(Debug)]
pub struct Env {
    info: Box<StartInfo>,
}

impl Env {
    /// Sends records of the crate `log` to the kernel's log if the domain may write to it: those of the level that
    /// argument `log=` names, else `info` and above.
    pub(super) fn new(info: Box<StartInfo>) -> Self {
        let env = Self { info };
        if let Ok(log) = env.capability::<KernelLog>(LOG) {
            let level = env.arg("log").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
            logger::install(log, level);
        }
        env
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// How often it was started before.
    pub fn restarts(&self) -> u32 {
        self.info.restarts
    }

    /// All arguments.
    pub fn args(&self) -> &str {
        &self.info.args
    }

    /// The value of argument `key`; see [`args::value`].
    pub fn arg(&self, key: &str) -> Option<&str> {
        args::value(&self.info.args, key)
    }

    /// The size that the manifest gives each stack of this domain, in bytes.
    pub fn stack_bytes(&self) -> u64 {
        self.number("stack").unwrap_or(STACK_DEFAULT_BYTES)
    }

    /// How many calls the manifest lets it serve at once.
    pub fn activations(&self) -> u64 {
        self.number("activations").unwrap_or(1)
    }

    /// The priority of the domain, which is the highest that its threads may have; 0 if it was not told.
    pub fn priority(&self) -> u8 {
        self.number("priority").unwrap_or(0)
    }

    fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.arg(key)?.parse().ok()
    }

    /// Every capability with its name.
    pub fn capabilities(&self) -> impl Iterator<Item = (&str, AnyCap)> {
        self.info
            .caps
            .iter()
            .map(|cap| (cap.name.as_str(), AnyCap::from_handle(Handle::from_raw(cap.handle))))
    }

    /// The capability with this name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn capability<T: Capability>(&self, name: &str) -> Result<T, EnvError> {
        let NamedCap { name, handle } = self
            .info
            .caps
            .iter()
            .find(|cap| cap.name == name)
            .ok_or_else(|| EnvError::Missing(crate::abi::name(name)))?;
        let cap = T::from_handle(Handle::from_raw(*handle));
        let Some(wanted) = T::KIND else { return Ok(cap) };
        match cap.identify() {
            Ok(identity) if identity.kind == wanted => Ok(cap),
            Ok(identity) => Err(EnvError::WrongKind { name: name.clone(), found: identity.kind, wanted }),
            Err(error) => Err(EnvError::Lost { name: name.clone(), error }),
        }
    }

    /// The endpoint with this name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, EnvError> {
        self.capability(name)
    }

    /// The notification with this name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn notification(&self, name: &str) -> Result<Notification, EnvError> {
        self.capability(name)
    }

    /// The capability to serve the endpoint of protocol `P`, under `serve:` and the protocol's name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn served<P: Protocol>(&self) -> Result<Endpoint, EnvError> {
        self.capability(&cut::<40>(format_args!("serve:{}", P::NAME)))
    }

    /// The server's own client of protocol `P`, under `self:` and the protocol's name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn own_client<P: Protocol>(&self) -> Result<Client<P>, EnvError> {
        self.capability(&cut::<40>(format_args!("self:{}", P::NAME))).map(Client::new)
    }

    /// The server of protocol `P`, under the protocol's name.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn client<P: Protocol>(&self) -> Result<Client<P>, EnvError> {
        Ok(Client::new(self.endpoint(P::NAME)?))
    }
}
