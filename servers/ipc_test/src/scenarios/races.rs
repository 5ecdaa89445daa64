//! Two CPUs at once: one takes something away, the other uses it.
//!
//! By themselves these scenarios leave to luck where the other CPU is. The harness does not: it stops this side at
//! [`starting_line`], puts the other CPU at each instruction of its way in turn, lets this side go on alone, and sees
//! at [`finish_line`] whether what must have waited has waited (`tests/tests/races`).

use alloc::vec::Vec;
use core::time::Duration;

use libpks::rt::region::Access;
use libpks::rt::thread::JoinHandle;
use libpks::rt::{
    CapRights, Capability, Error, Instant, Key, KeyPool, Notification, Offer, Owned, Region, Thread, time,
};

use crate::crew::{Helper, PATIENCE, Tools};
use crate::errand::{Reply, Request};
use crate::haunt::{self, COUNT, FAULT, Haunter, RUNS};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

pub(super) const ROUNDS: u64 = 8;
/// Rounds where each needs a new domain.
const FEW_ROUNDS: u64 = 4;
/// How long one looks whether a thread that was stopped does something.
const LOOK: Duration = Duration::from_millis(2);
/// How long a call may wait until it is accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(500);

/// The next thing that this side does is to take something away: what concerns the region at this address, if any.
#[inline(never)]
pub(crate) extern "sysv64" fn starting_line(region: u64) {
    core::hint::black_box(region);
}

/// It has been taken away: the kernel has said so.
#[inline(never)]
pub(crate) fn finish_line() {
    core::hint::black_box(2);
}

/// The other side has been seen to fail.
#[inline(never)]
pub(crate) fn over() {
    core::hint::black_box(3);
}

/// Binds the calling thread to the first CPU while it lives.
pub(super) struct First(Owned<Thread>);

impl First {
    pub(super) fn bind() -> Result<Self, Error> {
        let thread = Thread::current()?;
        thread.bind(Some(0))?;
        Ok(Self(thread))
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // Only a CPU that does not exist can be refused.
        let _ = self.0.bind(None);
    }
}

/// The CPU of the other side: the second, if there is one.
pub(super) fn other_cpu(tools: &Tools) -> Result<u32, Error> {
    Ok(u32::from(tools.cpus()? > 1))
}

pub(super) fn until(note: Notification, wanted: u64) -> Run {
    match note.wait(Some(Instant::after(PATIENCE)))? {
        bits if bits == wanted => Ok(()),
        bits => Err(Stop::failed(format_args!("the other side signalled {bits:#x} instead of {wanted:#x}"))),
    }
}

fn count(region: Region) -> Result<u64, Error> {
    region.open_read()?.read_u64(COUNT)
}

/// Takes something away from who uses `region`; then that must fault, and must not have used it in between.
fn take_away(
    checks: &Checks,
    region: Region,
    note: Notification,
    take_fn: impl FnOnce() -> Result<(), Error>,
) -> Run {
    until(note, RUNS)?;
    starting_line(region.info()?.address);
    take_fn()?;
    finish_line();
    let at_return = count(region)?;
    until(note, FAULT)?;
    let after = count(region)?;
    over();
    checks.same(format_args!("uses after it was taken"), after, at_return)
}

/// A thread of this domain that uses a region. Dropping it kills it.
struct Own(Haunter);

impl Own {
    fn start(tools: &Tools, region: Region, opens: bool, note: Notification) -> Result<Self, Error> {
        haunt::start(tools.priority, other_cpu(tools)?, region, opens, note).map(Self)
    }

    fn kill(&self) -> Result<(), Error> {
        self.0.thread().kill()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Takes something away from another domain, whose thread uses `region` through the first of `offers`.
fn take_from(
    (tools, checks): (&Tools, &Checks),
    helper: &Helper,
    region: Region,
    offers: &[Offer],
    take_fn: impl FnOnce() -> Result<(), Error>,
) -> Run {
    let haunted = helper.ask_with(&Request::Haunt { cpu: other_cpu(tools)? }, offers)?;
    if haunted != Reply::Done {
        return Err(Stop::failed(format_args!("the helper: {haunted:?}")));
    }
    take_away(checks, region, *helper.note, take_fn)?;
    helper.expect(&Request::Bury, &Reply::Done)
}

pub(super) fn revoke(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, helper) = (First::bind()?, Helper::new(tools)?);
    for _ in 0..ROUNDS {
        let region = Region::create(16, None)?;
        take_from((tools, checks), &helper, *region, &[Offer::copy(*region)], || region.revoke())?;
    }
    Ok("a domain lost a region under its thread")
}

pub(super) fn narrow(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, helper) = (First::bind()?, Helper::new(tools)?);
    for _ in 0..ROUNDS {
        let region = Region::create(16, None)?;
        let wide = region.mint(CapRights::READ | CapRights::WRITE | CapRights::GRANT, 0)?;
        let both = [Offer::copy(*wide), Offer::copy(*region).read_only()];
        take_from((tools, checks), &helper, *region, &both, || wide.revoke())?;
    }
    Ok("a domain may only read any more what its thread was writing")
}

pub(super) fn close_for_all(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        // Under its own key: what no other domain holds has the domain's, which is always open.
        let (key, _) = tools.keys.allocate()?;
        let region = Region::create(16, Some(*key))?;
        region.open_global(Access::ReadWrite)?;
        let _own = Own::start(tools, *region, false, *note)?;
        take_away(checks, *region, *note, || region.open_global(Access::None))?;
    }
    Ok("a thread lost what all threads had")
}

pub(super) fn destroy(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        let region = Region::create(16, None)?;
        let address = region.info()?.address;
        let own = Own::start(tools, *region, true, *note)?;
        until(*note, RUNS)?;
        starting_line(address);
        drop(region);
        finish_line();
        until(*note, FAULT)?;
        over();
        let fault = own.0.thread().fault()?;
        checks.that(
            (address..address + 16).contains(&fault.address),
            format_args!("a fault at {:#x}, not at {address:#x}", fault.address),
        )?;
    }
    Ok("a thread lost a region that went")
}

/// Takes the key with this number out of the pool, which does not give back at once what it got last.
fn key_again(pool: KeyPool, number: u8) -> Result<Owned<Key>, Error> {
    let mut others = Vec::new();
    loop {
        match pool.allocate()? {
            (key, again) if again == number => return Ok(key),
            (key, _) => others.push(key),
        }
    }
}

pub(super) fn key_reuse(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        let (key, number) = tools.keys.allocate()?;
        let region = Region::create(16, Some(*key))?;
        let address = region.info()?.address;
        let _own = Own::start(tools, *region, true, *note)?;
        until(*note, RUNS)?;
        starting_line(address);
        drop(region);
        drop(key);
        let key = key_again(tools.keys, number)?;
        let region = Region::create(16, Some(*key))?;
        finish_line();
        until(*note, FAULT)?;
        over();
        checks.same(format_args!("address"), region.info()?.address, address)?;
        checks.same(format_args!("uses of the new region"), count(*region)?, 0)?;
    }
    Ok("what was open of a key's old region opened nothing of the new one")
}

pub(super) fn rekey(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        let ((old, number), (new, _)) = (tools.keys.allocate()?, tools.keys.allocate()?);
        let region = Region::create(16, Some(*old))?;
        let own = Own::start(tools, *region, true, *note)?;
        until(*note, RUNS)?;
        starting_line(0);
        region.rekey(*new)?;
        drop(old);
        let again = key_again(tools.keys, number)?;
        finish_line();
        let at_return = count(*region)?;
        let until = Instant::after(PATIENCE);
        while count(*region)? < at_return + 3 && Instant::now() < until {
            time::sleep(LOOK)?;
        }
        over();
        let after = count(*region)?;
        checks.that(
            after >= at_return + 3,
            format_args!(
                "{at_return} uses when the key changed, {after} later: {:?}",
                own.0.thread().fault()
            ),
        )?;
        drop(again);
    }
    Ok("a thread did not notice another key")
}

/// Ends who uses `region`, which must do nothing afterwards.
fn end(
    checks: &Checks,
    region: Region,
    note: Notification,
    end_fn: impl FnOnce() -> Result<(), Error>,
) -> Run {
    until(note, RUNS)?;
    starting_line(region.info()?.address);
    end_fn()?;
    finish_line();
    let at_return = count(region)?;
    time::sleep(LOOK)?;
    let after = count(region)?;
    over();
    checks.same(format_args!("uses after the end"), after, at_return)
}

pub(super) fn kill_thread(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        let region = Region::create(16, None)?;
        let own = Own::start(tools, *region, true, *note)?;
        end(checks, *region, *note, || own.kill())?;
        let ended = own.0.thread().join(Some(Instant::after(PATIENCE)));
        checks.same(format_args!("how it ended"), ended, Err(Error::Gone))?;
    }
    Ok("a running thread was killed")
}

pub(super) fn kill_domain(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let _first = First::bind()?;
    for _ in 0..FEW_ROUNDS {
        let (helper, region) = (Helper::new(tools)?, Region::create(16, None)?);
        let haunted = helper.ask_with(&Request::Haunt { cpu: other_cpu(tools)? }, &[Offer::copy(*region)])?;
        if haunted != Reply::Done {
            return Err(Stop::failed(format_args!("the helper: {haunted:?}")));
        }
        end(checks, *region, *helper.note, || helper.domain.stop())?;
    }
    Ok("a running domain was stopped")
}

pub(super) fn migrate(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    for _ in 0..ROUNDS {
        // Under its own key: what no other domain holds has the domain's, which is always open.
        let (key, _) = tools.keys.allocate()?;
        let region = Region::create(16, Some(*key))?;
        region.open_global(Access::ReadWrite)?;
        let own = Own::start(tools, *region, false, *note)?;
        take_away(checks, *region, *note, || {
            own.0.thread().bind(Some(0))?;
            region.open_global(Access::None)
        })?;
    }
    Ok("a thread lost on one CPU what it had on another")
}

pub(super) fn server_dies(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    let cpu = other_cpu(tools)?;
    for _ in 0..FEW_ROUNDS {
        let helper = Helper::new(tools)?;
        let (client, signals) = (helper.client(), *note);
        let calls: JoinHandle<Result<Error, Error>> = tools.thread(move || {
            Thread::current()?.bind(Some(cpu))?;
            let mut made = 0_u64;
            loop {
                let called = client.call_until(&Request::Badge, Instant::after(ACCEPTED_WITHIN));
                if let Err(error) = called.map_err(cause) {
                    return Ok(error);
                }
                made += 1;
                if made == 3 {
                    signals.signal(RUNS)?;
                }
            }
        })?;
        until(*note, RUNS)?;
        starting_line(0);
        helper.domain.stop()?;
        finish_line();
        let last = calls.join(Some(Instant::after(PATIENCE)))??;
        over();
        checks.that(
            matches!(last, Error::PeerDiedMidCall | Error::TimedOut),
            format_args!("the last call ended with {last:?}"),
        )?;
    }
    Ok("each caller heard of the end of its server")
}

pub(super) fn two_revokes(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (_first, note) = (First::bind()?, Notification::create()?);
    let cpu = other_cpu(tools)?;
    for _ in 0..ROUNDS {
        let region = Region::create(16, None)?;
        let rights = CapRights::READ | CapRights::GRANT;
        let (branch, signals) = (region.mint(rights, 0)?.keep(), *note);
        let revoker: JoinHandle<Result<Error, Error>> = tools.thread(move || {
            Thread::current()?.bind(Some(cpu))?;
            let mut made = 0_u64;
            loop {
                let twig = branch.mint(CapRights::READ, 0).map(Owned::keep);
                if let Err(error) = twig.and_then(|_| branch.revoke()) {
                    return Ok(error);
                }
                made += 1;
                if made == 3 {
                    signals.signal(RUNS)?;
                }
            }
        })?;
        until(*note, RUNS)?;
        starting_line(0);
        region.revoke()?;
        finish_line();
        let last = revoker.join(Some(Instant::after(PATIENCE)))??;
        over();
        checks.same(format_args!("the other's last revoke"), last, Error::NoSuchCapability)?;
        checks.that(region.open_read().is_ok(), format_args!("the root has gone as well"))?;
    }
    Ok("a tree was revoked from its root and from a branch")
}
