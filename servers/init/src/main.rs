//! `init`: the first domain. It starts the servers that the manifest names, each with what the manifest gives it,
//! hears of their ends, and serves the `supervisor` protocol.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod doom;
mod fleet;
mod heirloom;
mod overseer;

use alloc::vec::Vec;
use core::time::Duration;
use fleet::Fleet;
use heirloom::HeirloomError;
use libpks::manifest::{Manifest, ManifestError};
use libpks::proto::Protocol;
use libpks::proto::supervisor::{Reply, Request, Supervisor};
use libpks::rt::log::{info, warn};
use libpks::rt::serve::{self, SELF_BADGE};
use libpks::rt::{
    BootModule, CallError, CapRights, Capability, Client, Env, EnvError, Error, Instant, Notification, time,
};
use overseer::Overseer;

libpks::server_main!(main);

/// The longest manifest that is read, in bytes.
const MANIFEST_LIMIT: usize = 256 << 10;
/// How long to wait before a failed call is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// Why there can be no system.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The kernel did not give `init` what it should.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused something.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// The manifest is no good.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// What the supervisor before has left is no good.
    #[error("{0}")]
    Heirloom(#[from] HeirloomError),
    /// Nobody is said to provide the supervisor's endpoint.
    #[error("the manifest lets no server provide `{}`", Supervisor::NAME)]
    NoSupervisor,
}

fn main(env: Env) -> Result<(), Failure> {
    let manifest = Manifest::decode(&read_manifest(&env)?)?;
    info!("{} servers in the manifest", manifest.servers.len());
    let stack = env.stack_bytes();
    let fleet = Fleet::new(env, manifest)?;
    let ended = fleet.ended();
    let endpoint = fleet.endpoint(Supervisor::NAME).ok_or(Failure::NoSupervisor)?;
    let own = Client::new(endpoint.mint(CapRights::CALL, SELF_BADGE)?.keep());
    serve::start(endpoint, Overseer::new(fleet), stack)?;
    watch(own, ended)
}

fn read_manifest(env: &Env) -> Result<Vec<u8>, Failure> {
    Ok(env.capability::<BootModule>("module:manifest")?.read_all(MANIFEST_LIMIT)?)
}

/// Has the supervisor attend to its servers whenever one ends or is due.
fn watch(own: Client<Supervisor>, ended: Notification) -> ! {
    loop {
        let next = match attend(&own) {
            Ok(next) => next,
            Err(error) => {
                warn!("cannot attend to the servers: {error}");
                Some(Instant::after(PAUSE))
            }
        };
        match ended.wait(next) {
            Ok(_) | Err(Error::TimedOut) => {}
            Err(error) => {
                warn!("cannot wait for ends: {error}");
                // A failure here leaves no pause, which is all that can be lost.
                let _ = time::sleep(PAUSE);
            }
        }
    }
}

fn attend(own: &Client<Supervisor>) -> Result<Option<Instant>, CallError> {
    match own.call(&Request::Attend)? {
        Reply::Attended(0) => Ok(None),
        Reply::Attended(nanos) => Ok(Some(Instant::from_nanos(nanos))),
        _ => Err(CallError::BadReply),
    }
}
