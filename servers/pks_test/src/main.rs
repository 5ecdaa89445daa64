//! The test server: runs the scenarios of `libpks::proto::pks_test`, each on request.
//!
//! | module | what it holds |
//! |---|---|
//! | [`service`] | requests, one session for each client, one run at a time |
//! | [`bench`] | what the SelfTest capability gives, typed |
//! | [`crash`] | accesses that end this domain, S9 and P12 |
//! | [`subject`] | threads that a scenario makes fault |
//! | [`scenarios`] | the scenarios |
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod bench;
mod crash;
mod scenarios;
mod service;
mod subject;

use alloc::sync::Arc;

use libpks::abi::Error;
use libpks::rt::{Env, EnvError, Inspect, serve};

libpks::server_main!(main);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error("the kernel does not say what checks the keys: {0}")]
    Inspect(#[from] Error),
}

fn main(env: Env) -> Result<(), Failure> {
    stress::if_worker(&env)?;
    scenarios::if_partner(&env)?;
    let nursery = stress::Nursery {
        quota: env.capability("quota")?,
        image: env.capability("module:pks_test")?,
        priority: env.priority(),
    };
    let inspect: Inspect = env.capability("inspect")?;
    let tools = bench::Tools {
        self_test: env.capability("self-test")?,
        keys: env.capability("key-pool")?,
        inspect,
        isolation: inspect.system()?.isolation,
        priority: env.priority(),
        nursery,
    };
    Ok(serve::run_shared(&env, service::Desk(Arc::new(service::Service::new(tools))))?)
}
