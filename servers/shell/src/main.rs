//! `shell`: the command line on the serial console.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod attacks;
mod control;
mod scenarios;
mod screen;
mod session;
mod show;
mod trouble;

use libpks::rt::Env;
use screen::Screen;
use session::Session;
use trouble::Trouble;

libpks::server_main!(main);

fn main(env: Env) -> Result<(), Trouble> {
    let screen = Screen::new(env.client()?)?;
    Session::new(env, screen).run()
}
