//! The judge's own random calls: operations with capabilities that it cannot hand on, because they are `init`'s. They do
//! it no harm, so it makes them itself.
#![forbid(unsafe_code)]

use fastrand::Rng;
use libpks::abi::inspect::Subject;
use libpks::abi::{Error, PLACE_EMPTY, Syscall};
use libpks::cap::Handle;
use libpks::proto::fuzzer::Tally;
use libpks::rt::{AnyCap, Capability, Env, Owned, raw};

use super::{Run, Tools, wrong};

/// Calls for each worker.
const CALLS: u32 = 24;

/// Handles that an operation is tried with.
pub(crate) struct Own {
    log: u64,
    ports: u64,
}

impl Own {
    /// What the manifest gives beyond [`Tools`].
    pub(crate) fn new(env: &Env) -> Self {
        let handle = |name: &str| env.capability::<AnyCap>(name).map_or(0, |held| held.handle().raw());
        Self { log: handle("log"), ports: handle("ports:2e8") }
    }

    /// Makes some calls, and counts them.
    pub(crate) fn make_calls(&self, tools: &Tools, seed: u64, tally: &mut Tally) -> Run {
        let mut random = Rng::with_seed(!seed);
        for _ in 0..CALLS {
            let (operation, words) = self.draw(tools, &mut random);
            let info = if random.u8(0..4) == 0 { random.u64(0..5000) } else { 0 };
            let outcome = raw::operate(operation as u64, info, words);
            let code = outcome.err().map_or(0, |error| error as u32);
            tally.calls += 1;
            if let Some(count) = tally.outcomes.get_mut(code.min(31) as usize) {
                *count += 1;
            }
            match outcome {
                Ok([handle, ..])
                    if operation == Syscall::DomainCreate || operation == Syscall::KeyAllocate =>
                {
                    drop(Owned::new(AnyCap::from_handle(Handle::from_raw(handle))));
                }
                // Where a domain is to be may be the handle of another.
                Err(Error::NoSuchCapability)
                    if operation == Syscall::DomainCreate && words[7] > PLACE_EMPTY => {}
                Err(Error::NoSuchSyscall | Error::NoSuchCapability | Error::Unknown | Error::Deadlock) => {
                    return wrong(format_args!("{operation:?} of {words:x?} came back with {outcome:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn draw(&self, tools: &Tools, random: &mut Rng) -> (Syscall, [u64; 8]) {
        let edge = |random: &mut Rng| match random.u8(0..6) {
            0 => u64::MAX - random.u64(0..3),
            1 => 1 << random.u32(0..64),
            2 => u64::from(u32::MAX) + random.u64(0..2),
            3 => random.u64(..),
            _ => random.u64(0..20),
        };
        let mut words = [0; 8].map(|_: u64| edge(random));
        let (image, quota) = (tools.image.handle().raw(), tools.quota.handle().raw());
        let subject = random.u64(0..Subject::Cpu as u64 + 2);
        let (operation, first): (_, &[u64]) = match random.u8(0..9) {
            0 => (Syscall::LogRead, &[self.log]),
            1 => (Syscall::ModuleInfo, &[image]),
            2 => (Syscall::ModuleRead, &[image]),
            3 => (Syscall::PortRead, &[self.ports, 0x2e8 + words[1] % 9, words[2] % 6]),
            4 => (Syscall::PortRange, &[self.ports]),
            5 => (Syscall::KeyAllocate, &[tools.keys.handle().raw()]),
            6 => (Syscall::DomainCreate, &[image, quota, words[2] % (2 << 20), words[3] % 3]),
            7 => (Syscall::DomainCreate, &[image, quota]),
            _ => (Syscall::Inspect, &[tools.inspect.handle().raw(), subject]),
        };
        for (word, plausible) in words.iter_mut().zip(first) {
            *word = *plausible;
        }
        (operation, words)
    }
}
