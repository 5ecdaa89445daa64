//! What a capability lets its holder do, and what its loss takes.

use alloc::vec::Vec;

use libpks::abi::Syscall;
use libpks::abi::layout::{self, IPC_BUFFER_BYTES};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{
    BootModule, CapRights, Capability, Client, Endpoint, Error, Instant, IoPorts, Notification, Offer, Owned,
    Region, Thread, raw,
};

use super::refused;
use super::transfers::failed;
use crate::crew::{Helper, PATIENCE, Tools, outcome, still_waits};
use crate::errand::{Errand, Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

pub(super) fn serve(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let mut helper = Helper::serving(tools, Endpoint::create()?, 2, None)?;
    let inside = helper.occupy()?;
    // Takes the helper's right to serve; this domain calls by its own capability.
    helper.endpoint.revoke()?;
    let waits = helper.send(Request::Badge)?;
    checks.that(still_waits(&waits), format_args!("a call was accepted that nobody may serve"))?;
    helper.release()?;
    checks.same(format_args!("the call that was accepted before"), outcome(&inside)?, Ok(Reply::Done))?;
    checks.that(still_waits(&waits), format_args!("the place in which it was served took another call"))?;
    // Another domain serves it, beside the first, which lives on.
    let first = core::mem::replace(&mut helper.domain, tools.make("role=none", &[])?.domain);
    helper.replace()?;
    checks.same(format_args!("by the next server"), outcome(&waits)?, Ok(Reply::Word(0)))?;
    checks.same(
        format_args!("the first server"),
        first.status()?.state,
        libpks::abi::inspect::DomainState::Running,
    )?;
    helper.expect(&Request::Tally, &Reply::Words(0, 0))?;
    drop(first);
    helper.expect(&Request::Badge, &Reply::Word(0))?;
    Ok("a server whose right to serve was revoked gets no more calls")
}

pub(super) fn parts(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let pool = tools.keys.identify()?.rights;
    checks.that(!pool.contains(CapRights::GRANT), format_args!("the pool can be granted"))?;
    if let Ok((key, _)) = tools.keys.allocate() {
        let rights = key.identify()?.rights;
        checks.that(pool.contains(rights), format_args!("a key of the pool has {rights:?}"))?;
        let sent = helper.ask_with(&Request::Identify, &[Offer::copy(*key)]);
        refused(checks, "a key in a message", sent, Error::MissingRights)?;
    }
    let ports: IoPorts = tools.ports;
    refused(
        checks,
        "a part of ports without grant",
        ports.range(0x2e8, 0x2e8).map(drop),
        Error::MissingRights,
    )?;
    let read = ports.mint(CapRights::READ, 0)?;
    refused(checks, "writing to ports for reading", read.write(0x2e8, 1, 0), Error::MissingRights)?;
    for (port, width) in [(0x2e7, 1), (0x2e7, 2), (0x2ef, 2), (0x2ed, 4), (0x2f0, 1), (0x3f8, 1), (0xcf8, 4)]
    {
        refused(checks, "a port outside", read.read(port, width), Error::InvalidArgument)?;
        refused(checks, "a port outside", ports.write(port, width, 0), Error::InvalidArgument)?;
    }
    checks.that(read.read(0x2ec, 4).is_ok(), format_args!("the last four ports cannot be read"))?;
    Ok("keys, ports and their parts")
}

pub(super) fn module(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let image: BootModule = tools.image;
    let bytes = image.info()?.1;
    let read = |offset: u64, length: u64| {
        let words = [image.handle().raw(), offset, length, 0, 0, 0, 0, 0];
        raw::operate(Syscall::ModuleRead as u64, 0, words).map(|words| words[0])
    };
    checks.same(format_args!("at the end"), read(bytes, 10), Ok(0))?;
    checks.same(format_args!("across the end"), read(bytes - 3, 10), Ok(3))?;
    checks.same(format_args!("nothing"), read(0, 0), Ok(0))?;
    checks.same(format_args!("more than the buffer"), read(0, u64::MAX), Ok(IPC_BUFFER_BYTES as u64))?;
    for offset in [bytes + 1, bytes + 4096, 1 << 40, u64::MAX - 1, u64::MAX] {
        refused(checks, "behind the end", read(offset, 1), Error::InvalidArgument)?;
    }
    let blind = image.mint(CapRights::empty(), 0)?;
    refused(checks, "reading without the right", blind.info().map(drop), Error::MissingRights)?;
    Ok("a boot module was read up to its end")
}

pub(super) fn recorded_rights(tools: &Tools, checks: &Checks) -> Run<Seen> {
    use libpks::rt::region::Access;
    let (region, note) = (Region::create(8, None)?, Notification::create()?);
    let narrow = region.mint(CapRights::READ, 0)?;
    // In this view, so that the region is not of this domain's own key.
    let helper = Helper::new(&tools.here())?;
    helper.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
    let (hears, raw) = (*note, region.unguarded()?);
    let victim = tools.thread(move || {
        Thread::current()?.on_fault(hears, 1)?;
        raw.write_u64(0, 9)
    })?;
    checks.same(format_args!("a fault"), note.wait(Some(Instant::after(PATIENCE)))?, 1)?;
    let thread = victim.thread();
    let before = thread.fault()?.pkrs;
    refused(checks, "more than held", thread.set_rights(*narrow, Access::ReadWrite), Error::RightsExceeded)?;
    checks.same(format_args!("the word"), thread.fault()?.pkrs, before)?;
    thread.set_rights(*narrow, Access::ReadOnly)?;
    refused(checks, "more than held", thread.set_rights(*narrow, Access::ReadWrite), Error::RightsExceeded)?;
    let looks = thread_for_reading()?;
    refused(checks, "without the right", looks.set_rights(*region, Access::ReadOnly), Error::MissingRights)?;
    refused(checks, "without the right", looks.resume(), Error::MissingRights)?;
    thread.set_rights(*region, Access::ReadWrite)?;
    thread.resume()?;
    checks.same(format_args!("the write"), victim.join(Some(Instant::after(PATIENCE)))?, Ok(()))?;
    refused(checks, "a thread that does not stand", thread.resume(), Error::WrongState)?;
    Ok("recorded rights were set no further than a capability goes")
}

/// This thread, to look at.
fn thread_for_reading() -> Result<Owned<Thread>, Error> {
    Thread::current()?.mint(CapRights::READ, 0)
}

pub(super) fn replies(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let held = || tools.running("helper").map(|helper| helper.capabilities);
    let before = held()?;
    // Who is killed in the call gets no reply.
    let client = Client::<Errand>::new(*helper.endpoint);
    let caller = tools.thread(move || {
        client.exchange(&Request::Give { after_wait: true }, &[], None).map(drop).map_err(cause)
    })?;
    helper.until_here()?;
    caller.thread().kill()?;
    helper.release()?;
    helper.expect(&Request::Badge, &Reply::Word(0))?;
    checks.same(format_args!("what a reply to nobody left"), held()?, before)?;
    // Nor who has no room for what it brings.
    let (kept, full) = fill(tools)?;
    checks.same(format_args!("a full space"), full, Error::LimitReached)?;
    let given = helper.trade(&Request::Give { after_wait: false }, &[]).map(|(reply, _)| reply);
    refused(checks, "a reply for which there is no room", given.and_then(failed), Error::LimitReached)?;
    checks.same(format_args!("what a refused reply left"), held()?, before)?;
    drop(kept);
    let (reply, received) = helper.trade(&Request::Give { after_wait: false }, &[])?;
    checks.same(format_args!("with room"), (reply, received.len()), (Reply::Done, 1))?;
    checks.same(format_args!("what a reply left"), held()?, before)?;
    Ok("what nobody took was left with nobody")
}

/// As many capabilities as this domain may have, and why there are no more.
fn fill(_tools: &Tools) -> Run<(Vec<Owned<Notification>>, Error)> {
    // One of them goes before anybody can find the space full.
    let note = Notification::create()?;
    let mut kept = Vec::with_capacity(4096);
    loop {
        match note.mint(CapRights::SIGNAL, 0) {
            Ok(_) if kept.len() >= 100_000 => {
                return Err(Stop::failed(format_args!("a space without a limit")));
            }
            Ok(minted) => kept.push(minted),
            Err(error) => {
                kept.push(note);
                return Ok((kept, error));
            }
        }
    }
}

pub(super) fn payers(tools: &Tools, checks: &Checks) -> Run<Seen> {
    // What the heap takes it takes before.
    drop(fill(tools)?);
    let budget = tools.budget()?;
    let round = |checks: &Checks, what: &str| {
        checks.that(
            tools.is_budget(budget)?,
            format_args!("{what}: not {budget:#x} bytes are left for domains"),
        )
    };
    round(checks, "at first")?;
    // Objects that outlive who made them.
    let helper = Helper::new(tools)?;
    let (reply, received) = helper.trade(&Request::Make, &[])?;
    checks.same(format_args!("reply"), (reply, received.len()), (Reply::Done, 3))?;
    let (_, prey) = helper.trade(&Request::Prey, &[])?;
    drop(helper);
    checks.that(!tools.is_budget(budget)?, format_args!("what a dead domain made costs nothing"))?;
    drop((received, prey));
    round(checks, "after objects whose maker died first")?;
    // A caller with openings at home, to which it never comes back.
    let helper = Helper::new(tools)?;
    let caller = tools
        .start("role=caller openings=20", &[crate::crew::grant("next", *helper.endpoint, CapRights::CALL)])?;
    helper.until_here()?;
    caller.stop()?;
    helper.release()?;
    helper.expect(&Request::Badge, &Reply::Word(0))?;
    drop((caller, helper));
    round(checks, "after a caller that died in its call")?;
    Ok("memory went back to the byte, whoever had paid for it")
}

pub(super) fn log(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let position = tools.log.read(u64::MAX)?.next;
    tools.log.write("honest\r[    0.000] fault    ERROR forged\u{1b}[2J\u{7}\tand tab")?;
    let mut seen = Vec::new();
    let mut at = position;
    loop {
        let piece = tools.log.read(at)?;
        if piece.bytes.is_empty() {
            break;
        }
        seen.extend(piece.bytes);
        at = piece.next;
    }
    let text = core::str::from_utf8(&seen).map_err(|_| Error::Malformed)?;
    let line = text.lines().find(|line| line.contains("honest")).ok_or(Error::NotFound)?;
    checks.that(line.contains("ipc_test honest"), format_args!("it is not said whose it is: {line:?}"))?;
    checks.that(!line.chars().any(char::is_control), format_args!("control characters: {line:?}"))?;
    checks.that(line.contains("forged"), format_args!("the line was cut: {line:?}"))?;
    Ok("a line stayed what it was")
}

pub(super) fn backtrace(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let nowhere = Unguarded::in_regions(layout::REGIONS_BASE + layout::REGIONS_BYTES - layout::PAGE, 8)?;
    let note = Notification::create()?;
    let steps = |frame: Option<u64>| -> Run<usize> {
        let hears = *note;
        let victim = tools.thread(move || {
            Thread::current()?.on_fault(hears, 1)?;
            match frame {
                Some(frame) => nowhere.read_u64_in_frame(0, frame),
                None => nowhere.read_u64(0),
            }
        })?;
        note.wait(Some(Instant::after(PATIENCE)))?;
        let steps = victim.thread().fault()?.backtrace.len();
        victim.thread().kill()?;
        Ok(steps)
    };
    let honest = steps(None)?;
    checks.that(honest > 1, format_args!("an honest chain has {honest} steps"))?;
    // A frame that points to itself, in this domain's own memory.
    let mut own = alloc::boxed::Box::new([0_u64; 2]);
    let address = (&raw const *own).expose_provenance() as u64;
    *own = [address, 1];
    let (region, other) = (Region::create(8, None)?, Helper::new(tools)?);
    let slot = tools.running("helper")?.base;
    let page = address & !(layout::PAGE - 1);
    let frames = [
        address,
        address + 1,
        page + layout::PAGE - 8,
        layout::KERNEL_BASE,
        0xffff_8000_0000_1000,
        region.info()?.address,
        slot + layout::HEAP_OFFSET,
        layout::SLOTS_BASE,
        0x8000_0000_0000_0000,
        u64::MAX - 15,
        u64::MAX - 7,
        0,
    ];
    for frame in frames {
        checks.same(format_args!("steps from {frame:#x}"), steps(Some(frame))?, 1)?;
    }
    checks.same(format_args!("who was pointed at"), other.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("chains of stack frames were followed at home only")
}

pub(super) fn entries(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (helper, endpoint) = (Helper::new(tools)?, Endpoint::create()?);
    let (own, others) = (tools.running("ipc_test")?.base, tools.running("helper")?.base);
    let region = Region::create(8, None)?.info()?.address;
    let addresses = [
        0,
        others + layout::IMAGE_OFFSET,
        own - 1,
        own + layout::SLOT_BYTES,
        region,
        layout::GATE_CALL,
        layout::KERNEL_BASE + 0x1000,
        0xffff_8000_0000_0000,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    for address in addresses {
        let thread = [address, 0, 0, 1, 0, 0, 0, 0];
        let made = raw::operate(Syscall::ThreadCreate as u64, 0, thread);
        refused(checks, "a thread elsewhere", made, Error::InvalidArgument)?;
        let serve = [endpoint.handle().raw(), address, 0, 1, 0, 0, 0, 0];
        let served = raw::operate(Syscall::EndpointServe as u64, 0, serve);
        refused(checks, "a server elsewhere", served, Error::InvalidArgument)?;
    }
    checks.same(format_args!("afterwards"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("no thread and no call enters outside of its domain")
}
