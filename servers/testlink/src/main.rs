//! The guest's end of the test link: answers the harness over the second serial port (`libpks::proto::testlink`).
//!
//! It is only in manifests for tests. [`line`] moves frames, [`agent`] does what they ask.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod agent;
mod endure;
mod line;

use agent::Agent;
use console::uart::UartError;
use libpks::rt::{Env, EnvError, Error};
use line::Line;

libpks::server_main!(main);

/// Why there is no test link.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The manifest does not give what it needs.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused something.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// There is no device.
    #[error("{0}")]
    Uart(#[from] UartError<Error>),
}

fn main(env: Env) -> Result<(), Failure> {
    let mut line = Line::new(&env)?;
    let mut agent = Agent::new(&env)?;
    loop {
        let Some(asked) = line.next()? else {
            agent.count_damaged();
            continue;
        };
        let (answered, ends) = agent.answer(&asked);
        line.send(answered)?;
        if ends {
            agent.exit()?;
        }
    }
}
