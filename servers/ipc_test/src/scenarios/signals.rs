//! Signals that somebody asked for end with the capabilities through which that was done.

use libpks::abi::inspect::DomainState;
use libpks::rt::{Capability, Domain, Error, Instant, IrqLine, Notification, Offer, Owned, Thread};

use super::refused;
use crate::crew::{Helper, PATIENCE, Tools, WHILE, end_of};
use crate::errand::{Ear, Reply, Request};
use crate::helper::HEARD;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

/// What is taken from whoever asked to hear of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    Nothing,
    /// What the signal is about, by its giver.
    Subject,
    /// The notification, by its giver.
    Note,
    /// The first or the second, by the hearer itself.
    Dropped(bool),
}

const TAKEN: [Taken; 5] =
    [Taken::Nothing, Taken::Subject, Taken::Note, Taken::Dropped(false), Taken::Dropped(true)];

fn hear(hearer: &Helper, ear: Ear, subject: impl Capability, note: Notification) -> Run {
    let offers = [Offer::copy(subject), Offer::copy(note)];
    match hearer.ask_with(&Request::Hear(ear), &offers)? {
        Reply::Done => Ok(()),
        other => Err(Stop::failed(format_args!("it cannot hear: {other:?}"))),
    }
}

fn take(hearer: &Helper, taken: Taken, subject: impl Capability, note: Notification) -> Run {
    match taken {
        Taken::Nothing => {}
        Taken::Subject => subject.revoke()?,
        Taken::Note => note.revoke()?,
        Taken::Dropped(second) => hearer.expect(&Request::Deafen { second }, &Reply::Done)?,
    }
    Ok(())
}

pub(super) fn ends(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let hearer = Helper::new(tools)?;
    for taken in TAKEN {
        let note = Notification::create()?;
        let subject = tools.make("role=none", &[])?.domain;
        hear(&hearer, Ear::End, *subject, *note)?;
        take(&hearer, taken, *subject, *note)?;
        subject.stop()?;
        let heard = if taken == Taken::Nothing { Ok(HEARD) } else { Err(Error::WouldBlock) };
        checks.same(format_args!("the end of a domain, {taken:?} taken"), note.poll(), heard)?;
    }
    Ok("the end of a domain was told to who still might hear of it")
}

/// A thread of another domain that will fault, and that domain.
fn prey(tools: &Tools) -> Run<(Helper, Owned<Thread>)> {
    let helper = Helper::new(tools)?;
    let (reply, received) = helper.trade(&Request::Prey, &[])?;
    let thread = received.into_iter().next().ok_or(Error::NotFound)?.into_kind()?;
    if reply == Reply::Done { Ok((helper, thread)) } else { Err(Error::Malformed.into()) }
}

fn is_ended(domain: Domain) -> Run<bool> {
    Ok(end_of(domain)?.0 == DomainState::Faulted)
}

pub(super) fn faults(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let hearer = Helper::new(tools)?;
    for taken in TAKEN {
        let note = Notification::create()?;
        let (prey, thread) = prey(tools)?;
        hear(&hearer, Ear::Fault, *thread, *note)?;
        take(&hearer, taken, *thread, *note)?;
        prey.release()?;
        if taken == Taken::Nothing {
            checks.same(format_args!("a fault"), note.wait(Some(Instant::after(PATIENCE))), Ok(HEARD))?;
            checks.same(format_args!("its domain"), prey.domain.status()?.state, DomainState::Running)?;
            // Nobody is left who could answer it.
            thread.revoke()?;
            checks
                .that(is_ended(*prey.domain)?, format_args!("a fault that nobody answers ended nothing"))?;
        } else {
            checks.that(is_ended(*prey.domain)?, format_args!("{taken:?} taken: the domain goes on"))?;
            refused(checks, "what was heard", note.poll(), Error::WouldBlock)?;
        }
    }
    Ok("a fault that nobody may hear of any more ends its domain")
}

/// Registers of the clock (MC146818): A has the rate, B lets interrupts through, a read of C permits the next.
mod clock {
    pub(super) const INDEX: u16 = 0x70;
    pub(super) const DATA: u16 = 0x71;
    pub(super) const A: u32 = 0x0a;
    pub(super) const B: u32 = 0x0b;
    pub(super) const C: u32 = 0x0c;
    /// 64 interrupts a second.
    pub(super) const RATE: u32 = 0x2a;
    pub(super) const PERIODIC: u32 = 0x40;
}

fn write_clock(tools: &Tools, register: u32, value: u32) -> Result<(), Error> {
    tools.clock_ports.write(clock::INDEX, 1, register)?;
    tools.clock_ports.write(clock::DATA, 1, value)
}

fn read_clock(tools: &Tools, register: u32) -> Result<u32, Error> {
    tools.clock_ports.write(clock::INDEX, 1, register)?;
    tools.clock_ports.read(clock::DATA, 1)
}

/// Whether an interrupt comes within a while.
fn ticks(tools: &Tools, note: Notification) -> Result<bool, Error> {
    read_clock(tools, clock::C)?;
    let _ = note.poll();
    read_clock(tools, clock::C)?;
    match note.wait(Some(Instant::after(WHILE * 20))) {
        Ok(bits) => Ok(bits == 1),
        Err(Error::TimedOut) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn interrupts(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (a, b) = (read_clock(tools, clock::A)?, read_clock(tools, clock::B)?);
    write_clock(tools, clock::A, clock::RATE)?;
    write_clock(tools, clock::B, b | clock::PERIODIC)?;
    let seen = line(tools, checks);
    write_clock(tools, clock::B, b)?;
    write_clock(tools, clock::A, a)?;
    seen
}

fn line(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let line: IrqLine = tools.clock_line;
    let (note, other) = (Notification::create()?, Notification::create()?);
    let rights = line.identify()?.rights;
    let second = line.mint(rights, 0)?;
    second.bind(*note, 1)?;
    checks.that(ticks(tools, *note)?, format_args!("no interrupt came"))?;
    drop(second);
    checks.that(ticks(tools, *note)?, format_args!("none came with one of two capabilities to the line"))?;
    // Whoever binds it last has it.
    line.bind(*other, 1)?;
    checks.that(ticks(tools, *other)?, format_args!("none came for who bound the line last"))?;
    refused(checks, "for who bound it first", note.poll().map(|bits| bits & !1), Error::WouldBlock)
        .or_else(|_| checks.same(format_args!("late bits"), note.poll(), Err(Error::WouldBlock)))?;
    let asked = other.mint(libpks::rt::CapRights::SIGNAL, 0)?;
    line.bind(*asked, 1)?;
    checks.that(ticks(tools, *other)?, format_args!("none came through a derived capability"))?;
    other.revoke()?;
    checks.that(!ticks(tools, *other)?, format_args!("one came through a capability that was revoked"))?;
    let useless = line.mint(libpks::rt::CapRights::empty(), 0)?;
    refused(checks, "binding without the right", useless.bind(*note, 1), Error::MissingRights)?;
    refused(checks, "acknowledging without the right", useless.ack(), Error::MissingRights)?;
    line.bind(*note, 1)?;
    checks.that(ticks(tools, *note)?, format_args!("none came after all"))?;
    Ok("interrupts of the clock, through several capabilities to its line")
}
