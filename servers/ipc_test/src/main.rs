//! The test server for the rules of calls: runs the scenarios of `libpks::proto::ipc_test`, each on request. It makes
//! domains from its own image; those have a role in their arguments and do what a scenario asks of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`service`] | requests, one run at a time |
//! | [`checks`] | counts checks and words what was seen |
//! | [`errand`] | what a scenario can ask of a helper |
//! | [`haunt`] | threads that use a region without a pause |
//! | [`helper`] | what the image does in a domain with a role |
//! | [`client`] | domains that pay for the calls that they make |
//! | [`crew`] | making helpers, and calling them from threads |
//! | [`scenarios`] | the scenarios |
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod crew;
mod errand;
mod haunt;
mod helper;
mod scenarios;
mod service;

use alloc::sync::Arc;

use libpks::proto::ipc_test::SCENARIOS;
use libpks::rt::log::info;
use libpks::rt::{Env, EnvError, serve};

libpks::server_main!(main);

fn main(env: Env) -> Result<(), EnvError> {
    if let Some(role) = env.arg("role") {
        return helper::main(&env, role);
    }
    let service = Arc::new(service::Service::new(crew::Tools::new(&env)?));
    // For a person without a test link.
    if env.arg("run") == Some("all") {
        for scenario in SCENARIOS {
            let outcome = service.supervised(scenario).judged(scenario.name);
            info!("{} {} ({} checks): {}", outcome.verdict, scenario.name, outcome.checks, outcome.seen);
        }
        info!("that was the last scenario");
    }
    serve::run_shared(&env, service::Desk(service))
}
