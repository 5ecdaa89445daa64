//! The stress server: runs sessions on request. Its workers are made from the same image.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use libpks::proto::stress::{Reply, Request, SERVER, Stress};
use libpks::rt::{Caller, Env, EnvError, Server, serve};
use stress::{Failure, Nursery, Tools, if_worker};

libpks::server_main!(main);

struct Desk(Tools);

impl Server for Desk {
    type Protocol = Stress;

    fn handle(&mut self, _caller: &mut Caller, request: Request) -> Reply {
        let Request::Run(session) = request;
        if let Err(error) = self.0.keys.allocate() {
            return Reply::Unready(error);
        }
        match stress::run(&self.0, SERVER, &session) {
            (tally, Ok(())) => Reply::Passed(tally),
            (tally, Err(Failure { step, words })) => Reply::Failed { tally, step, words },
        }
    }
}

fn main(env: Env) -> Result<(), EnvError> {
    if_worker(&env)?;
    let nursery = Nursery {
        quota: env.capability("quota")?,
        image: env.capability("module:stress")?,
        priority: env.priority(),
    };
    let tools = Tools {
        self_test: env.capability("self-test")?,
        keys: env.capability("key-pool")?,
        inspect: env.capability("inspect")?,
        nursery,
    };
    serve::run(&env, Desk(tools))
}
