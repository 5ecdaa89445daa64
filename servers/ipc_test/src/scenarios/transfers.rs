//! Capabilities in messages.

use libpks::abi::fault::FaultKind;
use libpks::abi::inspect::DomainState;
use libpks::abi::message::{Info, Transfer, TransferMode};
use libpks::rt::{
    CapRights, Capability, Endpoint, Error, Handle, Notification, ObjectKind, Offer, Owned, Region, raw,
};

use super::refused;
use crate::crew::{Helper, Tools, end_of};
use crate::errand::{Reply, Request};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

type Seen = &'static str;

const ALL: CapRights =
    CapRights::SIGNAL.union(CapRights::WAIT).union(CapRights::GRANT).union(CapRights::MANAGE);

fn identity(kind: ObjectKind, rights: CapRights, badge: u64) -> Reply {
    Reply::Identity(kind.code(), rights.bits(), badge)
}

pub(super) fn copy(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let note = Notification::create()?;
    let seen = helper.ask_with(&Request::Identify, &[Offer::copy(*note)])?;
    checks.same(format_args!("copy"), seen, identity(ObjectKind::Notification, ALL, 0))?;
    checks.same(format_args!("the sender's own"), note.identify()?.rights, ALL)?;
    let narrow = note.mint(CapRights::SIGNAL | CapRights::GRANT, 0x11)?;
    let seen = helper.ask_with(&Request::Identify, &[Offer::copy(*narrow)])?;
    let rights = CapRights::SIGNAL | CapRights::GRANT;
    checks.same(format_args!("narrow copy"), seen, identity(ObjectKind::Notification, rights, 0x11))?;
    let region = Region::create(8, None)?;
    let seen = helper.ask_with(&Request::Identify, &[Offer::copy(*region).read_only()])?;
    let rights = CapRights::READ | CapRights::GRANT | CapRights::MANAGE;
    checks.same(format_args!("read-only copy"), seen, identity(ObjectKind::Region, rights, 0))?;
    let private = note.mint(CapRights::SIGNAL, 0)?;
    let sent = helper.ask_with(&Request::Identify, &[Offer::copy(*private)]);
    refused(checks, "copy without the right to grant", sent, Error::MissingRights)?;
    Ok("rights and badges of copies")
}

pub(super) fn hand_over(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, 77)?;
    let old = *region;
    helper.ask_with(&Request::Keep, &[Offer::hand_over(region)])?;
    refused(checks, "the sender's handle", old.identify(), Error::NoSuchCapability)?;
    refused(checks, "the sender's opening", old.open_read().map(drop), Error::NoSuchCapability)?;
    checks.same(format_args!("word in the server"), helper.ask(&Request::Read)?, Reply::Word(77))?;
    helper.expect(&Request::Write(78), &Reply::Done)?;
    let (reply, mut received) =
        helper.client().exchange(&Request::GiveBack, &[], None).map_err(crate::helper::cause)?;
    checks.same(format_args!("reply"), reply, Reply::Done)?;
    let back: Owned<Region> = received.pop().ok_or(Error::NotFound)?.into_kind()?;
    checks.same(format_args!("word that came back"), back.open_read()?.read_u64(0)?, 78)?;
    refused(checks, "the server's own", helper.ask(&Request::Read).and_then(failed), Error::NotFound)?;
    Ok("a region went and came back")
}

/// The error that a helper met.
pub(super) fn failed(reply: Reply) -> Result<Reply, Error> {
    match reply {
        Reply::Failed(error) => Err(error),
        other => Ok(other),
    }
}

pub(super) fn lend(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, 5)?;
    let lent = |request: &Request| helper.ask_with(request, &[Offer::lend(*region)]).and_then(failed);
    checks.same(format_args!("read"), lent(&Request::Read)?, Reply::Word(5))?;
    checks.same(format_args!("written"), lent(&Request::Write(6))?, Reply::Done)?;
    checks.same(format_args!("word after"), region.open_read()?.read_u64(0)?, 6)?;
    refused(checks, "copy of a loan", lent(&Request::Derive), Error::MissingRights)?;
    checks.same(format_args!("keep"), lent(&Request::Keep)?, Reply::Done)?;
    let kept = helper.ask(&Request::Read).and_then(failed);
    refused(checks, "a loan that was kept", kept, Error::NoSuchCapability)?;
    let narrow = helper.ask_with(&Request::Write(7), &[Offer::lend(*region).read_only()]).and_then(failed);
    refused(checks, "write to a read-only loan", narrow, Error::RightsExceeded)?;
    checks.same(format_args!("word at the end"), region.open_read()?.read_u64(0)?, 6)?;
    Ok("a region was lent six times")
}

/// What is tried, the capabilities, and what the kernel must say.
type Case<'a> = (&'a str, &'a [(TransferMode, u64)], Error);

/// A message's information word and words, with capabilities as given.
fn message(offers: &[(TransferMode, u64)]) -> Result<(u64, [u64; 8]), Error> {
    let (mut info, mut words) = (Info::default(), [0; 8]);
    for (n, &(mode, handle)) in offers.iter().enumerate() {
        info = info.with_transfer(Transfer { mode, read_only: false }).ok_or(Error::TooLarge)?;
        *words.get_mut(Transfer::word(n)).ok_or(Error::TooLarge)? = handle;
    }
    Ok((info.raw(), words))
}

fn refused_messages(checks: &Checks, endpoint: Endpoint) -> Run {
    use TransferMode::{Copy, Lend, Move};
    let (a, b) = (Notification::create()?, Notification::create()?);
    let private = b.mint(CapRights::SIGNAL, 0)?;
    let [first, second, locked] = [a.handle().raw(), b.handle().raw(), private.handle().raw()];
    let cases: [Case<'_>; 7] = [
        ("moved twice", &[(Move, first), (Move, first)], Error::BadMessage),
        ("moved and copied", &[(Move, first), (Copy, first)], Error::BadMessage),
        ("lent and moved", &[(Lend, second), (Move, second)], Error::BadMessage),
        ("moved before a forged one", &[(Move, first), (Copy, 0xdead)], Error::NoSuchCapability),
        ("moved before one without grant", &[(Move, first), (Move, locked)], Error::MissingRights),
        ("copied before a forged loan", &[(Copy, first), (Lend, 0)], Error::NoSuchCapability),
        ("lent without grant", &[(Lend, locked)], Error::MissingRights),
    ];
    for (what, offers, expected) in cases {
        let (info, words) = message(offers)?;
        refused(checks, what, raw::call(endpoint, info, words), expected)?;
        for (name, note) in [("first", *a), ("second", *b), ("third", *private)] {
            checks.that(
                note.identify().is_ok(),
                format_args!("{what}: the {name} handle is no good any more"),
            )?;
        }
    }
    Ok(())
}

pub(super) fn all_or_none(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    refused_messages(checks, *helper.endpoint)?;
    // The call's own capability may go with it.
    let own = helper.endpoint.mint(CapRights::CALL | CapRights::GRANT, 0x33)?.keep();
    let (info, words) = message(&[(TransferMode::Move, own.handle().raw())])?;
    raw::call(own, info, words)?;
    refused(checks, "the call's own capability", own.identify(), Error::NoSuchCapability)?;
    // A reply cannot lend.
    let note = Notification::create()?;
    helper.ask_with(&Request::Keep, &[Offer::copy(*note)])?;
    refused(checks, "a loan in a reply", helper.ask(&Request::LendBack), Error::BadMessage)?;
    // Whoever holds as much as it may gets nothing more.
    let mut kept = alloc::vec::Vec::new();
    let full = loop {
        match note.mint(CapRights::SIGNAL | CapRights::GRANT, 0) {
            Ok(minted) if kept.len() < 100_000 => kept.push(minted),
            Ok(_) => return Err(Stop::failed(format_args!("a space without a limit"))),
            Err(error) => break error,
        }
    };
    checks.same(format_args!("a full space"), full, Error::LimitReached)?;
    checks.that(Handle::from_raw(0) != note.handle(), format_args!("a handle is 0"))?;
    Ok("nothing of a refused message is left")
}

pub(super) fn lent_region_closed(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, 5)?;
    let address = region.info()?.address;
    let lent = |request: &Request| helper.ask_with(request, &[Offer::lend(*region)]);
    checks.same(format_args!("opened for all"), lent(&Request::OpenForAll)?, Reply::Done)?;
    // Another loan of the same region gives the right to open it, and does not open it.
    checks.same(
        format_args!("read without opening"),
        lent(&Request::ReadUnopened),
        Err(Error::PeerDiedMidCall),
    )?;
    let (state, fault) = end_of(*helper.domain)?;
    checks.same(format_args!("end"), state, DomainState::Faulted)?;
    let at = fault.map(|fault| fault.address);
    checks.same(format_args!("address"), at, Some(address))?;
    checks.same(format_args!("word at the end"), region.open_read()?.read_u64(0)?, 5)?;
    Ok("the second loan was closed")
}

pub(super) fn openings_end_with_call(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, 6)?;
    let address = region.info()?.address;
    helper.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
    let left_open = helper.ask(&Request::OpenAndReturn);
    checks.same(format_args!("read while open"), left_open, Ok(Reply::Word(6)))?;
    // The helper still holds the region, and serves the next call in the same place.
    let next = helper.ask(&Request::ReadUnopened);
    checks.same(format_args!("read in the next call"), next, Err(Error::PeerDiedMidCall))?;
    let (state, fault) = end_of(*helper.domain)?;
    checks.same(format_args!("end"), state, DomainState::Faulted)?;
    let at = fault.map(|fault| (fault.kind, fault.address));
    checks.same(format_args!("fault"), at, Some((FaultKind::ProtectionKey, address)))?;
    Ok("what a call left open was closed in the next")
}
