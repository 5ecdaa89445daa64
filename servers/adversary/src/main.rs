//! Commits one crime on request (`libpks::proto::adversary`), so that it can be seen what stops it.
//!
//! This is the one server that does not forbid unsafe code: crimes against memory cannot be written without. All of it
//! is below [`act`]; what any of it does is meant to end this domain, and nothing else.
//!
//! | module | crimes |
//! |---|---|
//! | [`act`] | none: reads, writes, jumps, instructions out of the middle of others |
//! | [`memory`], [`jumps`], [`instructions`], [`frames`], [`control`] | of who writes its own instructions |
//! | [`handles`], [`rights`], [`messages`], [`exhaustion`], [`records`] | of who calls kernel and servers |
#![no_std]
#![no_main]

extern crate alloc;

mod act;
mod control;
mod deaths;
mod exhaustion;
mod frames;
mod handles;
mod instructions;
mod jumps;
mod memory;
mod messages;
mod records;
mod rights;

use alloc::vec::Vec;
use libpks::proto::adversary::{Adversary, Reply, Request};
use libpks::proto::supervisor::Supervisor;
use libpks::rt::{
    Caller, Capability, Client, Endpoint, Env, EnvError, Error, IoPorts, KernelLog, Owned, Region, Server,
    serve,
};

libpks::server_main!(main);

/// What a crime has come to, if it has come back.
pub(crate) enum Loot {
    /// The domain has nothing of it.
    Nothing,
    /// The domain has got what it must not.
    Got(u64),
}

pub(crate) type Outcome = Result<Loot, Error>;

/// What crimes need.
pub(crate) struct Means {
    /// A server that is sent noise.
    console: Endpoint,
    supervisor: Client<Supervisor>,
    /// Its own endpoint, to call.
    own: Client<Adversary>,
    log: KernelLog,
    /// Eight ports that nobody answers at, from [`handles::FIRST_PORT`] on.
    ports: IoPorts,
    /// The highest priority of its threads.
    priority: u8,
    /// Handles of all that the domain was started with.
    held: Vec<u64>,
    /// How often it was started again.
    restarts: u32,
}

/// A crime that is asked for.
pub(crate) struct Case<'a> {
    name: &'a str,
    target: u64,
    /// The address of a word that it must not read.
    witness: u64,
    /// What came with the request.
    region: Option<Region>,
    means: &'a Means,
}

impl Server for Means {
    type Protocol = Adversary;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        let (name, target, witness) = match request {
            Request::Commit { name, target, witness } => (name, target, witness),
            Request::Die(death) => return Reply::Refused(deaths::die(death, self)),
            Request::DieAt { restarts } if restarts == self.restarts => panic!("asked to die this once"),
            Request::DieAt { .. } | Request::Nothing => return Reply::Refused(Error::WouldBlock),
        };
        // Kept: what is given for good must be taken back by force.
        let region = caller.take(0).and_then(|given| given.into_kind::<Region>().ok()).map(Owned::keep);
        let case = Case { name: &name, target, witness, region, means: self };
        match commit(&case) {
            Some(Ok(Loot::Nothing)) => Reply::Succeeded,
            Some(Ok(Loot::Got(what))) => Reply::Gained(what),
            Some(Err(error)) => Reply::Refused(error),
            None => Reply::UnknownCrime,
        }
    }
}

/// Commits a crime; `None` if there is none of that name.
fn commit(case: &Case<'_>) -> Option<Outcome> {
    type Sort = fn(&Case<'_>) -> Option<Outcome>;
    const SORTS: [Sort; 10] = [
        memory::commit,
        jumps::commit,
        instructions::commit,
        frames::commit,
        control::commit,
        handles::commit,
        rights::commit,
        messages::commit,
        exhaustion::commit,
        records::commit,
    ];
    SORTS.iter().find_map(|sort| sort(case))
}

/// The error if it is what each of the attempts came to; else the first that is another.
pub(crate) fn all_refused(expected: Error, attempts: impl IntoIterator<Item = Result<(), Error>>) -> Outcome {
    match attempts.into_iter().find(|outcome| *outcome != Err(expected)) {
        Some(Ok(())) => Ok(Loot::Got(expected as u64)),
        Some(Err(other)) => Err(other),
        None => Err(expected),
    }
}

/// Nothing if it is so, else what was got.
pub(crate) fn unless(got: bool, what: u64) -> Outcome {
    Ok(if got { Loot::Got(what) } else { Loot::Nothing })
}

fn main(env: Env) -> Result<(), EnvError> {
    let means = Means {
        console: env.endpoint("console")?,
        supervisor: env.client()?,
        own: env.own_client()?,
        log: env.capability("log")?,
        ports: env.capability("ports:2e0")?,
        priority: env.priority(),
        restarts: env.restarts(),
        held: env.capabilities().map(|(_, capability)| capability.handle().raw()).collect(),
    };
    serve::run(&env, means)
}
