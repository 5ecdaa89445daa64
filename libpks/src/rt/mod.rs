//! The runtime of a server: what stands between its safe code and the gates of the kernel.
//!
//! This is the only place where a server has unsafe code; the server itself forbids it. A server is a crate without
//! the standard library whose `main` gets an [`Env`](env::Env):
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #![forbid(unsafe_code)]
//!
//! libpks::server_main!(main);
//!
//! fn main(env: libpks::rt::Env) -> Result<(), libpks::rt::EnvError> { /* ... */ }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`env`] | name, arguments and capabilities that the domain was started with |
//! | [`handle`] | capabilities: plain ones, and [`Owned`](handle::Owned) ones that are deleted when dropped |
//! | [`client`], [`serve`] | typed calls, and the trait that a server implements |
//! | [`region`] | shared memory: guards that open it, accessors that copy |
//! | [`unguarded`], [`raw`] | accesses without a guard and messages of any form, for tests |
//! | [`measure`] | marks around what the bench measures |
//! | [`thread`], [`sync`], [`time`] | threads of the domain, a lock between them, sleeping |
//! | [`endpoint`], [`notification`], [`domain`], [`device`], [`system`] | the kernel's operations, by object |
//!
//! Nothing here gives a reference into memory that another domain can write: bytes are copied first, then decoded.

pub mod envelope;
pub mod text;

#[cfg(any(target_os = "none", test))]
#[cfg_attr(test, allow(dead_code, reason = "on the host only the registers are tested"))]
mod buffer;
#[cfg(target_os = "none")]
pub mod client;
#[cfg(target_os = "none")]
pub mod device;
#[cfg(target_os = "none")]
pub mod domain;
#[cfg(target_os = "none")]
pub mod endpoint;
#[cfg(target_os = "none")]
pub mod env;
#[cfg(any(target_os = "none", test))]
#[cfg_attr(test, allow(dead_code, reason = "on the host only the registers are tested"))]
mod gate;
#[cfg(target_os = "none")]
pub mod handle;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
mod logger;
#[cfg(target_os = "none")]
pub mod measure;
#[cfg(target_os = "none")]
pub mod notification;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
pub mod raw;
#[cfg(target_os = "none")]
pub mod region;
#[cfg(target_os = "none")]
pub mod ring;
#[cfg(target_os = "none")]
pub mod serve;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod sync;
#[cfg(target_os = "none")]
pub mod system;
#[cfg(target_os = "none")]
pub mod thread;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod unguarded;

#[cfg(target_os = "none")]
pub use self::{
    client::{CallError, Client},
    device::{IoPorts, IrqLine},
    domain::Domain,
    endpoint::{Endpoint, Offer},
    env::{Env, EnvError},
    handle::{AnyCap, Capability, Identity, Owned},
    notification::Notification,
    region::{ReadGuard, Region, WriteGuard},
    serve::{Caller, Server, SharedServer},
    system::{BootModule, Inspect, KernelLog, Key, KeyPool, Power, Quota, SelfTest},
    thread::Thread,
    time::Instant,
};

pub use crate::abi::Error;
pub use crate::cap::{CapRights, Handle, ObjectKind};
#[cfg(feature = "rt")]
pub use log;
