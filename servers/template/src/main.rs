//! What a new server is copied from: it counts, and tells the sum.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libpks::proto::Protocol;
use libpks::rt::log::info;
use libpks::rt::{Caller, Env, EnvError, Server, serve};
use serde::{Deserialize, Serialize};

libpks::server_main!(main);

/// Stands for the protocol. One that other servers speak too has a file in `libpks/src/proto`.
#[derive(Clone, Copy, Debug)]
pub struct Template;

impl Protocol for Template {
    const NAME: &'static str = "template";
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Add a number to the sum.
    Add(u32),
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The sum of all numbers so far, and whose number was the last: the badge of its client.
    Sum {
        /// The sum.
        sum: u64,
        /// The badge.
        badge: u64,
    },
}

struct Adder {
    sum: u64,
}

impl Server for Adder {
    type Protocol = Template;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        match request {
            Request::Add(number) => {
                self.sum = self.sum.wrapping_add(u64::from(number));
                Reply::Sum { sum: self.sum, badge: caller.badge }
            }
        }
    }
}

fn main(env: Env) -> Result<(), EnvError> {
    info!("started with arguments `{}`", env.args());
    serve::run(&env, Adder { sum: 0 })
}
