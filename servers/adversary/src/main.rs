//! Commits one crime on request (`libpks::proto::adversary`), so that it can be seen what stops it.
//!
//! This is the one server that does not forbid unsafe code: crimes against memory cannot be written without. All of it
//! is in [`crimes`]; what any of it does is meant to end this domain, and nothing else.
#![no_std]
#![no_main]

extern crate alloc;

mod crimes;
mod excess;

use libpks::proto::adversary::{Adversary, Reply, Request};
use libpks::rt::{Caller, Capability, Endpoint, Env, EnvError, Owned, Region, Server, serve};

libpks::server_main!(main);

/// What the crimes need.
struct Criminal {
    /// A server that is sent noise.
    console: Endpoint,
    priority: u8,
}

impl Server for Criminal {
    type Protocol = Adversary;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        let Request::Commit { name, target } = request;
        // Kept: what is given for good must be taken back by force.
        let region = caller.take(0).and_then(|given| given.into_kind::<Region>().ok()).map(Owned::keep);
        let on_region = region.and_then(|region| excess::commit_on(&name, region, self.priority));
        let by_force = || crimes::commit(&name, target, self.console.handle());
        match on_region.or_else(by_force).or_else(|| excess::commit(&name, self.console, self.priority)) {
            Some(Ok(())) => Reply::Succeeded,
            Some(Err(error)) => Reply::Refused(error),
            None => Reply::UnknownCrime,
        }
    }
}

fn main(env: Env) -> Result<(), EnvError> {
    let criminal = Criminal { console: env.endpoint("console")?, priority: env.priority() };
    serve::run(&env, criminal)
}
