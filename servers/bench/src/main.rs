//! The bench: carries out each operation of `libpks::proto::bench` many times, between marks that the emulator's plugin
//! knows, and tells how many ticks of the time-stamp counter it took. So the same image counts instructions in the emulator
//! and cycles on a machine.
//!
//! It makes a second domain from its own image, which serves the calls; that one has `role=peer` among its arguments.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod crowd;
mod peer;
mod rows;
mod table;

use alloc::boxed::Box;
use core::time::Duration;

use libpks::abi::inspect::PowerAction;
use libpks::rt::log::{error, info};
use libpks::rt::thread::spawn;
use libpks::rt::{Env, EnvError, Error, Power, time};

libpks::server_main!(main);

/// Bytes of stack of every thread here.
const STACK: u64 = 64 * 1024;

fn main(env: Env) -> Result<(), EnvError> {
    match env.arg("role") {
        Some("peer") => return peer::serve(&env),
        Some("caller") => return peer::announce(&env),
        Some("member") => return crowd::serve(&env),
        _ => {}
    }
    let tools = rows::Tools::new(&env)?;
    if env.arg("role") == Some("crowd") {
        match crowd::exercise(&tools, env.capability("inspect")?) {
            Ok(()) => info!("crowd: that was all"),
            Err(words) => error!("crowd: failed: {words}"),
        }
        return Ok(());
    }
    let power: Power = env.capability("power")?;
    // Less urgent than those who are to be woken by it.
    let body = move || -> Result<(), Error> { table::run(&tools) };
    let outcome =
        spawn(STACK, tools.priority.saturating_sub(1), Box::new(body)).and_then(|run| run.join(None));
    match outcome {
        Ok(Ok(())) => info!("bench: that was the last row"),
        Ok(Err(error)) | Err(error) => error!("bench: stopped by an error: {error}"),
    }
    // The console takes the log a little later.
    let _ = time::sleep(Duration::from_millis(200));
    if let Err(error) = power.act(PowerAction::Off) {
        error!("bench: the machine stays on: {error}");
    }
    Ok(())
}
