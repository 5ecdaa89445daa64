//! Rings.

use core::time::Duration;

use libpks::abi::inspect::DomainState;
use libpks::ring::RingError;
use libpks::rt::ring::{Receiver, RingFailure, Sender};
use libpks::rt::{CapRights, Error, Instant, Notification, Owned, Region};

use libpks::proto::pks_test::checks::{Checks, Run, Stop};

use crate::crew::{PATIENCE, Tools, grant};

type Seen = &'static str;

/// Bytes of a ring: 128 messages of two words.
const BYTES: u64 = 4096;
/// Many times as many as fit.
const MESSAGES: u64 = 3000;
/// Rounds in which each end waits for the other.
const TURNS: u64 = 50;

/// What the two ends of a ring share.
struct Parts {
    region: Owned<Region>,
    arrived: Owned<Notification>,
    room: Owned<Notification>,
}

impl Parts {
    fn new() -> Result<Self, Error> {
        let region = Region::create(BYTES, None)?;
        Ok(Self { region, arrived: Notification::create()?, room: Notification::create()? })
    }

    fn sender(&self) -> Run<Sender<2>> {
        Sender::new(*self.region, *self.arrived, *self.room).map_err(stop)
    }

    fn receiver(&self) -> Run<Receiver<2>> {
        Receiver::new(*self.region, *self.arrived, *self.room).map_err(stop)
    }
}

pub(super) fn between_domains(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (there, back) = (Parts::new()?, Parts::new()?);
    let note = CapRights::SIGNAL | CapRights::WAIT;
    let region = CapRights::READ | CapRights::WRITE;
    let helper = tools.start(
        "role=echo",
        &[
            grant("there", *there.region, region),
            grant("there-arrived", *there.arrived, note),
            grant("there-room", *there.room, note),
            grant("back", *back.region, region),
            grant("back-arrived", *back.arrived, note),
            grant("back-room", *back.room, note),
        ],
    )?;
    let (mut sender, mut receiver) = (there.sender()?, back.receiver()?);
    let until = || Some(Instant::after(PATIENCE));
    // One at a time: each end waits for the other.
    for n in 0..TURNS {
        sender.send_until(&[n, !n], until()).map_err(stop)?;
        let echoed = receiver.take_until(until()).map_err(stop)?;
        if echoed != [n, n] {
            return Err(Stop::failed(format_args!("message {n} came back as {echoed:?}")));
        }
    }
    checks.same(format_args!("the ring there is empty again"), receiver.take().map_err(stop)?, None)?;
    // As fast as they will go, both rings full again and again.
    let (mut sent, mut taken) = (0, 0);
    while taken < MESSAGES {
        while sent < MESSAGES && sender.send(&[sent, !sent]).map_err(stop)? {
            sent += 1;
        }
        sender.flush().map_err(stop)?;
        let echoed = receiver.take_until(until()).map_err(stop)?;
        if echoed != [taken, taken] {
            return Err(Stop::failed(format_args!("message {taken} came back as {echoed:?}")));
        }
        taken += 1;
    }
    checks.same(format_args!("messages sent and come back"), (sent, taken), (MESSAGES, MESSAGES))?;
    checks.same(format_args!("no more than that"), receiver.take().map_err(stop)?, None)?;
    let soon = Some(Instant::after(Duration::from_millis(20)));
    let late = receiver.take_until(soon).map(drop);
    checks.same(format_args!("a wait with a deadline"), late, Err(RingFailure::Kernel(Error::TimedOut)))?;
    sender.send_until(&[7, !7], until()).map_err(stop)?;
    checks.same(format_args!("after it"), receiver.take_until(until()).map_err(stop)?, [7, 7])?;
    checks.same(format_args!("the other end"), helper.status()?.state, DomainState::Running)?;
    Ok("messages went there and back in order")
}

pub(super) fn lies(_tools: &Tools, checks: &Checks) -> Run<Seen> {
    /// Offsets of the counts of what was sent and taken.
    const SENT: u64 = 0;
    const TAKEN: u64 = 64;
    let corrupt = Err(RingFailure::Ring(RingError::Corrupt));
    for lie in [129, 1 << 32, 1 << 63, u64::MAX] {
        let parts = Parts::new()?;
        let (mut sender, mut receiver) = (parts.sender()?, parts.receiver()?);
        let memory = parts.region.open_write()?;
        memory.write_u64(SENT, lie)?;
        checks.same(format_args!("{lie:#x} sent"), receiver.take().map(drop), corrupt)?;
        checks.same(format_args!("and a wait"), receiver.take_until(None).map(drop), corrupt)?;
        memory.write_u64(SENT, 0)?;
        let mut sent = 0_u64;
        while sender.send(&[sent, 0]).map_err(stop)? {
            sent += 1;
        }
        checks.same(format_args!("messages that fit"), sent, 128)?;
        memory.write_u64(TAKEN, lie)?;
        checks.same(format_args!("{lie:#x} taken"), sender.send(&[0; 2]).map(drop), corrupt)?;
        checks.same(format_args!("and a wait"), sender.send_until(&[0; 2], None), corrupt)?;
        memory.write_u64(TAKEN, 0)?;
        for n in 0..sent {
            let message = receiver.take().map_err(stop)?;
            if message != Some([n, 0]) {
                return Err(Stop::failed(format_args!("message {n} is {message:?}")));
            }
        }
        checks.same(format_args!("then there is none"), receiver.take().map_err(stop)?, None)?;
    }
    let parts = Parts::new()?;
    let whole = Receiver::<1024>::new(*parts.region, *parts.arrived, *parts.room).map(drop);
    checks.same(
        format_args!("larger than the region"),
        whole,
        Err(RingFailure::Ring(RingError::TooSmall)),
    )?;
    Ok("lies were found out")
}

fn stop(failure: RingFailure) -> Stop {
    Stop::failed(format_args!("the ring does not go on: {failure}"))
}
