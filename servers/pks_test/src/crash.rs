//! S9 and P12: accesses that end this domain.

use libpks::abi::Error;
use libpks::pkey::{Access, Rights};
use libpks::proto::pks_test::{Armed, Crash, Culprit};
use libpks::rt::thread::spawn;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Region};

use crate::bench::{Target, Tools};
use crate::subject::{Attempt, Came, PATIENCE, access, open};

const STACK: u64 = 32 * 1024;
const VALUE: u64 = 0x5909;

/// A crash that was armed: its page is there.
#[derive(Debug)]
pub(crate) struct Prepared {
    crash: &'static Crash,
    target: Target,
}

impl Prepared {
    /// Makes the page, and tries the same access by a thread whose faults somebody waits for: it must fault, and the domain
    /// must live.
    ///
    /// # Errors
    /// What a page needs, or `WrongState` if that access went through.
    pub(crate) fn new(tools: &Tools, crash: &'static Crash) -> Result<Self, Error> {
        let target = Target::new(tools)?;
        let opened = core::iter::once((*target.region, crash.rights)).collect();
        let attempt =
            Attempt { raw: target.raw, offset: 0, access: crash.access, value: VALUE, opened, cpu: None };
        match attempt.make(tools) {
            Ok(Came::Fault(_)) => Ok(Self { crash, target }),
            Ok(Came::Through(_)) | Err(_) => Err(Error::WrongState),
        }
    }

    pub(crate) fn crash(&self) -> &'static Crash {
        self.crash
    }

    /// What is announced to who will judge.
    pub(crate) fn armed(&self) -> Armed {
        let Crash { rights, access, .. } = *self.crash;
        Armed { address: self.target.address(), key: self.target.key.index(), rights, access }
    }

    /// Makes the access with nobody waiting for the fault. It comes back only if the domain survives.
    pub(crate) fn carry_out(&self, tools: &Tools) -> Result<u64, Error> {
        let (region, raw) = (*self.target.region, self.target.raw);
        let Crash { rights, access, by, .. } = *self.crash;
        let deed = move || deed(region, raw, rights, access);
        match by {
            Culprit::Activation => deed(),
            Culprit::Thread => spawn(STACK, tools.priority, deed)?.join(Some(Instant::after(PATIENCE)))?,
        }
    }
}

fn deed(region: Region, raw: Unguarded, rights: Rights, how: Access) -> Result<u64, Error> {
    let _held = open(region, rights)?;
    access(&raw, 0, how, VALUE)
}
