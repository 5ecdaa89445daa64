//! The domains that the judge makes: a canary for the whole run, and one worker after the other, each with a puppet.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::inspect::DomainState;
use libpks::abi::layout::PAGE;
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::abi::{Error, name};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::cap::CapRights;
use libpks::proto::fuzzer::Tally;
use libpks::rt::domain::{Placement, Plan};
use libpks::rt::region::Access;
use libpks::rt::{Capability, Domain, Endpoint, Instant, Key, Notification, Owned, Region, text};

use super::{Run, Tools, wrong};
use crate::ROLE;
use crate::canary::{CANARY, JUDGE};
use crate::diary::{BYTES, Notes, SLOTS};
use crate::worker::{CALLS, DIARY, SEED, WORKER};

const STACK: u64 = 64 * 1024;
/// Memory of a worker, of a canary, and of a puppet.
const WORKER_BYTES: u64 = 3 << 20;
const CANARY_BYTES: u64 = 2 << 20;
const PUPPET_BYTES: u64 = 1 << 20;
/// The badge of a worker's calls to the canary.
const STRANGER: u64 = 0x7374;
/// Between two looks at a worker.
const LOOK: Duration = Duration::from_millis(4);
/// Looks without a call until a worker counts as waiting, before its first call and later.
const FIRST: u32 = 500;
const LATER: u32 = 10;

/// A domain of this image, with arguments and capabilities by name.
fn start(
    tools: &Tools,
    called: &str,
    bytes: u64,
    arguments: core::fmt::Arguments<'_>,
    grants: &[(&str, u64, CapRights, u64)],
) -> Result<Owned<Domain>, Error> {
    let Tools { image, quota, priority, .. } = *tools;
    let domain = Domain::create(&Plan {
        name: called,
        image,
        quota,
        quota_bytes: bytes,
        priority,
        budget: Budget::DEFAULT,
        overrun_ns: OVERRUN_DEFAULT_NS,
        placement: Placement::Here,
    })?;
    let args = text::cut::<200>(arguments);
    let args = args.as_str().try_into().map_err(|_| Error::TooLarge)?;
    let mut info = Box::new(StartInfo { name: name(called), args, restarts: 0, caps: Default::default() });
    for &(called, handle, rights, badge) in grants {
        let capability = libpks::rt::AnyCap::from_handle(libpks::cap::Handle::from_raw(handle));
        let handle = domain.grant(capability, rights, badge)?.raw();
        info.caps.push(NamedCap { name: name(called), handle }).map_err(|_| Error::TooLarge)?;
    }
    domain.start(STACK, &info)?;
    Ok(domain)
}

/// The canary.
pub(crate) struct Canary {
    domain: Owned<Domain>,
    endpoint: Owned<Endpoint>,
    own: Owned<Endpoint>,
}

impl Canary {
    /// Starts one.
    pub(crate) fn start(tools: &Tools) -> Result<Self, Error> {
        let endpoint = Endpoint::create()?;
        let own = endpoint.mint(CapRights::CALL, JUDGE)?;
        // More urgent than the workers that call it.
        let tools = Tools { priority: tools.priority + 1, ..*tools };
        let arguments = format_args!("{ROLE}={CANARY} stack={STACK} priority={}", tools.priority);
        let serve = ("serve", endpoint.handle().raw(), CapRights::SERVE, 0);
        let domain = start(&tools, CANARY, CANARY_BYTES, arguments, &[serve])?;
        Ok(Self { domain, endpoint, own })
    }

    /// Through which the judge calls it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        *self.own
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.domain.stop();
    }
}

/// How a worker has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// By itself.
    Done,
    /// By a fault.
    Faulted,
    /// It waited, and was stopped.
    Stopped,
}

/// A worker, and what was given to it. All of it goes with this.
pub(crate) struct Specimen {
    domain: Owned<Domain>,
    puppet: Owned<Domain>,
    diary: Owned<Region>,
    ended: Owned<Notification>,
    _given: (Owned<Notification>, Owned<Endpoint>, Owned<Region>, Option<Owned<Key>>),
}

impl Specimen {
    /// Starts a worker that makes calls drawn from a seed.
    pub(crate) fn start(tools: &Tools, canary: &Canary, seed: u64, calls: u32) -> Result<Self, Error> {
        let Tools { image, quota, priority, keys, .. } = *tools;
        let puppet = Domain::create(&Plan {
            name: "puppet",
            image,
            quota,
            quota_bytes: PUPPET_BYTES,
            priority,
            budget: Budget::DEFAULT,
            overrun_ns: OVERRUN_DEFAULT_NS,
            placement: Placement::Here,
        })?;
        let diary = Region::create(BYTES, None)?;
        diary.open_global(Access::ReadWrite)?;
        let (ended, told) = (Notification::create()?, Notification::create()?);
        let (served, shared) = (Endpoint::create()?, Region::create(3 * PAGE, None)?);
        let key = keys.allocate().ok().map(|(key, _)| key);
        let endpoint = CapRights::CALL | CapRights::SERVE | CapRights::GRANT | CapRights::MANAGE;
        let notification = CapRights::SIGNAL | CapRights::WAIT | CapRights::GRANT | CapRights::MANAGE;
        let memory = CapRights::READ | CapRights::WRITE;
        let managed = CapRights::READ | CapRights::GRANT | CapRights::MANAGE;
        let call = CapRights::CALL | CapRights::GRANT;
        let grants = Vec::from([
            (DIARY, diary.handle().raw(), memory, 0),
            ("canary", canary.endpoint.handle().raw(), call, STRANGER),
            ("endpoint", served.handle().raw(), endpoint, 0),
            ("notification", told.handle().raw(), notification, 0),
            ("region", shared.handle().raw(), memory | CapRights::GRANT, 0),
            ("puppet", puppet.handle().raw(), managed, 0),
        ]);
        let arguments =
            format_args!("{ROLE}={WORKER} priority={priority} stack={STACK} {SEED}={seed} {CALLS}={calls}");
        let domain = start(tools, WORKER, WORKER_BYTES, arguments, &grants)?;
        domain.on_end(*ended, 1)?;
        Ok(Self { domain, puppet, diary, ended, _given: (told, served, shared, key) })
    }

    /// Waits for its end, or brings it about once it makes no calls any more.
    pub(crate) fn watch(&mut self) -> Result<Fate, Error> {
        let (mut seen, mut idle) = (0, 0);
        loop {
            match self.ended.wait(Some(Instant::after(LOOK))) {
                Ok(_) => break,
                Err(Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
            let begun =
                self.notes()?.try_fold(0, |sum, notes| notes.calls().map(|(begun, _)| sum + begun))?;
            idle = if begun == seen { idle + 1 } else { 0 };
            if idle > if begun == 0 { FIRST } else { LATER } {
                self.domain.stop()?;
                self.ended.wait(None)?;
                break;
            }
            seen = begun;
        }
        match self.domain.status()?.state {
            DomainState::Exited => Ok(Fate::Done),
            DomainState::Faulted => Ok(Fate::Faulted),
            DomainState::Stopped => Ok(Fate::Stopped),
            DomainState::Created | DomainState::Running => Err(Error::WrongState),
        }
    }

    fn notes(&self) -> Result<impl Iterator<Item = Notes>, Error> {
        let page = self.diary.unguarded()?;
        Ok((0..SLOTS).filter_map(move |slot| Notes::new(page, slot)))
    }

    /// Takes its notes into the tally. Each call has come back but the last of each thread, which its thread, its domain or
    /// the judge has ended.
    pub(crate) fn count(&self, tally: &mut Tally, fate: Fate) -> Run {
        let unread = |error: Error| -> String { alloc::format!("no notes: {error}") };
        for notes in self.notes().map_err(unread)? {
            let (begun, ended) = notes.calls().map_err(unread)?;
            notes.add_outcomes(&mut tally.outcomes).map_err(unread)?;
            tally.calls += begun;
            let unfinished = begun.checked_sub(ended);
            tally.unfinished += u32::try_from(unfinished.unwrap_or(0)).unwrap_or(u32::MAX);
            let last = notes.last().map_err(unread)?;
            if !matches!(unfinished, Some(0 | 1)) {
                return wrong(format_args!(
                    "{fate:?} after {begun} calls and {ended} outcomes, last {last:#x}"
                ));
            }
            if let Some((call, code)) = notes.broken().map_err(unread)? {
                let error = Error::from_code(code);
                return wrong(format_args!("call {call:#x} came back with {error:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Specimen {
    fn drop(&mut self) {
        let _ = self.puppet.stop();
        let _ = self.domain.stop();
    }
}
