//! Deaths on request, each in the midst of a call and with whatever it then holds.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::mem;

use libpks::abi::layout::{KERNEL_BASE, PAGE};
use libpks::proto::adversary::Death;
use libpks::rt::region::Access;
use libpks::rt::thread::{self, Thread};
use libpks::rt::{CapRights, Capability, Endpoint, Error, Notification, Region, serve};

use crate::{Case, Means, commit};

const STACK: u64 = 16 * 1024;
/// How many of each are hoarded.
const HOARD: usize = 12;
const PIECE: usize = 16 * 1024;

/// Dies. It does not come back but from a death that was refused.
pub(crate) fn die(death: Death, means: &Means) -> Error {
    match death {
        Death::Panic => panic!("asked to panic"),
        Death::Fault => by_crime("null_read", 0, means),
        Death::Key => by_crime("write_kernel_text", KERNEL_BASE, means),
        Death::StackOverflow => by_crime("stack_overflow", 0, means),
        Death::Quota => use_up(),
        Death::Hoard => match hoard(means.priority) {
            Ok(()) => panic!("asked to die with a hoard"),
            Err(error) => panic!("the hoard is incomplete: {error}"),
        },
        Death::Spin => loop {
            core::hint::spin_loop();
        },
    }
}

fn by_crime(name: &str, target: u64, means: &Means) -> Error {
    let outcome = commit(&Case { name, target, witness: 0, region: None, means });
    outcome.and_then(Result::err).unwrap_or(Error::Unsupported)
}

fn use_up() -> Error {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    loop {
        pieces.push(core::hint::black_box(alloc::vec![0xa5; PIECE]));
    }
}

fn hoard(priority: u8) -> Result<(), Error> {
    let notification = Notification::create()?.keep();
    let sleeper = thread::spawn(STACK, priority, || -> () { serve::park() })?;
    let joined = sleeper.thread();
    for n in 0..HOARD {
        let region = Region::create(PAGE * (1 + n as u64), None)?.keep();
        mem::forget(region.open_write()?);
        region.open_global(Access::ReadOnly)?;
        region.mint(CapRights::READ, 0)?.keep();
        let endpoint = Endpoint::create()?.keep();
        endpoint.mint(CapRights::CALL, 1 + n as u64)?.keep();
        Notification::create()?.keep();
        let body = move || match n % 3 {
            0 => notification.wait(None).map(|_| ()),
            1 => Thread::join(joined, None).map(|_| ()),
            _ => loop {
                core::hint::spin_loop();
            },
        };
        // Those that spin are less urgent than anybody else.
        let priority = if n % 3 == 2 { 0 } else { priority };
        mem::forget(thread::spawn(STACK, priority, body)?);
    }
    mem::forget(sleeper);
    Ok(())
}
