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

use libpks::rt::{Env, EnvError, serve};

libpks::server_main!(main);

fn main(env: Env) -> Result<(), EnvError> {
    stress::if_worker(&env)?;
    scenarios::if_partner(&env)?;
    let nursery = stress::Nursery {
        quota: env.capability("quota")?,
        image: env.capability("module:pks_test")?,
        priority: env.priority(),
    };
    let tools = bench::Tools {
        self_test: env.capability("self-test")?,
        keys: env.capability("key-pool")?,
        inspect: env.capability("inspect")?,
        priority: env.priority(),
        nursery,
    };
    serve::run_shared(&env, service::Desk(Arc::new(service::Service::new(tools))))
}
