//! The fuzzer: random calls at every entry of the kernel, with random registers (`libpks::proto::fuzzer`).
//!
//! A random call may end whoever makes it, so expendable domains make them, all from this one image:
//!
//! | role | module | what it does |
//! |---|---|---|
//! | judge | [`judge`] | the server: makes the others, and looks after each worker at what it has left behind |
//! | worker | [`worker`] | makes random calls until it is done, stopped or dead |
//! | canary | [`canary`] | holds memory that nobody else may change, and says whether it is the same |
//! | puppet | none | is there for the worker to be granted to, started and stopped |
//!
//! What a worker writes down of its calls lies in a page that it shares with the judge ([`diary`]). Unsafe code is in
//! `worker/call.rs` alone, which loads registers and enters the kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod canary;
mod diary;
mod judge;
mod worker;

use libpks::proto::fuzzer::{Fuzzer, Reply, Request};
use libpks::rt::{Caller, Env, EnvError, Server, serve};

use judge::Judge;

libpks::server_main!(main);

/// The argument that says what a domain is.
const ROLE: &str = "role";

impl Server for Judge {
    type Protocol = Fuzzer;

    fn handle(&mut self, _caller: &mut Caller, request: Request) -> Reply {
        let Request::Run(session) = request;
        self.run(&session)
    }
}

fn main(env: Env) -> Result<(), EnvError> {
    match env.arg(ROLE) {
        Some(worker::WORKER) => worker::work(&env),
        Some(canary::CANARY) => canary::sit(&env),
        _ => serve::run(&env, Judge::new(&env)?),
    }
}
