//! Views: which domains are in one, what they share, what a call between them costs.

use alloc::vec::Vec;

use libpks::abi::fault::FaultKind;
use libpks::abi::inspect::{DomainInfo, DomainState, Isolation};
use libpks::abi::message::{Info, Transfer, TransferMode, WORDS};
use libpks::proto::pks_test::checks::{Checks, Run};
use libpks::rt::domain::Placement;
use libpks::rt::{CapRights, Capability, Domain, Endpoint, Error, Notification, Offer, Region, raw};

use super::races::First;
use super::refused;
use super::time::budget;
use crate::crew::{Helper, Means, Tools, end_of};
use crate::errand::{Reply, Request};

type Seen = &'static str;

/// Hardware keys that a view can give to domains.
const KEYS: usize = 14;
/// More than that.
const MANY: u64 = KEYS as u64 + 3;
/// How often slots are given out anew.
const ROUNDS: u64 = 3;
/// Calls whose roots are counted.
const CALLS: u64 = 200;

/// The domains that run.
fn running(tools: &Tools) -> Result<Vec<DomainInfo>, Error> {
    let is_running = |domain: &Result<DomainInfo, Error>| {
        domain.as_ref().map_or(true, |it| it.state == DomainState::Running)
    };
    tools.inspect.domains().filter(is_running).collect()
}

pub(super) fn more_than_keys(tools: &Tools, checks: &Checks) -> Run<Seen> {
    // They do next to nothing, so there is CPU time for all of them.
    let means = Means { budget: budget(1, 1000)?, ..tools.means() };
    let helper = |_| Helper::serving_with(tools, means, Endpoint::create()?, 1, None);
    let helpers: Vec<Helper> = (0..MANY).map(helper).collect::<Run<_>>()?;
    let answers = helpers.iter().map(|helper| helper.ask(&Request::Echo(alloc::vec![1, 2])));
    for answer in answers {
        checks.same(format_args!("an answer"), answer, Ok(Reply::Bytes(alloc::vec![1])))?;
    }
    let domains = running(tools)?;
    let alive = domains.iter().filter(|domain| domain.name == "helper").count();
    checks.same(format_args!("helpers that live"), alive, helpers.len())?;
    for (n, one) in domains.iter().enumerate() {
        let twin = domains.iter().take(n).find(|other| (other.view, other.key) == (one.view, one.key));
        checks.that(
            twin.is_none() && one.key.is_some(),
            format_args!(
                "{} and {:?} have the same key in view {}",
                one.name,
                twin.map(|it| &it.name),
                one.view
            ),
        )?;
    }
    // The last one first, so that a view is left by all before the one before it.
    helpers.into_iter().rev().for_each(drop);
    checks.that(Helper::new(tools).is_ok(), format_args!("no helper afterwards"))?;
    Ok("each answered, and no two had one key in one view")
}

pub(super) fn placed(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let own = tools.running("ipc_test")?;
    let named = |name, placement| {
        let means = Means { name, ..tools.means() };
        Helper::serving_with(&tools.placed(placement), means, Endpoint::create()?, 1, None)
    };
    let here = named("here", Placement::Here)?;
    checks.same(format_args!("the view of one here"), tools.running("here")?.view, own.view)?;
    let alone = named("alone", Placement::Alone)?;
    let apart = tools.running("alone")?.view;
    checks.that(apart != own.view, format_args!("one that is to be alone is here"))?;
    // Nobody comes to it, whoever asks for what.
    let beside = |domain: Domain| named("beside", Placement::Beside(domain));
    checks.that(beside(*alone.domain).is_err(), format_args!("somebody got to one that is to be alone"))?;
    let others: Vec<Helper> = (0..4).map(|_| Helper::new(tools)).collect::<Run<_>>()?;
    let company = running(tools)?.iter().filter(|domain| domain.view == apart).count();
    checks.same(format_args!("domains in its view"), company, 1)?;
    drop(others);
    let second = beside(*here.domain)?;
    checks.same(format_args!("the view of one beside"), tools.running("beside")?.view, own.view)?;
    drop(second);
    // No key is left here.
    let mut keys = Vec::new();
    while let Ok((key, _)) = tools.keys.allocate() {
        keys.push(key);
    }
    let full = tools.here().start("role=none", &[]).map(drop);
    refused(checks, "one more here", full, Error::KeysExhausted)?;
    checks.that(tools.start("role=none", &[]).is_ok(), format_args!("one more anywhere was refused"))?;
    drop(keys);
    let note = Notification::create()?;
    let wrong = Domain::from_handle(note.handle());
    let beside_nothing = tools.placed(Placement::Beside(wrong)).start("role=none", &[]).map(drop);
    refused(checks, "beside what is no domain", beside_nothing, Error::WrongObject)?;
    checks.same(format_args!("one alone"), alone.ask(&Request::Add([1; 8])).is_ok(), true)?;
    Ok("here, beside, alone, and refused")
}

pub(super) fn refused_across(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let means = Means { budget: budget(1, 1000)?, ..tools.means() };
    let helper =
        |placement| Helper::serving_with(&tools.placed(placement), means, Endpoint::create()?, 1, None);
    let (receiver, third) = (helper(Placement::Empty)?, helper(Placement::Alone)?);
    let (region, other) = (Region::create(8, None)?, Region::create(8, None)?);
    region.open_write()?.write_u64(0, 5)?;
    // Held elsewhere too, so it has a key of its own here.
    third.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
    let beside = tools.placed(Placement::Beside(*receiver.domain));
    let mut full = Vec::new();
    let refusal = loop {
        match beside.make("role=none", &[]) {
            Ok(unborn) => full.push(unborn),
            Err(error) => break error,
        }
    };
    checks.same(format_args!("no key is left there"), refusal, Error::KeysExhausted)?;
    full.pop();
    let here = *region;
    let guard = here.open_read()?;
    // To write and to read: two classes, so the second has no key. The runtime would delete what is refused.
    let weaker = other.mint(CapRights::READ | CapRights::GRANT, 0)?;
    let (mut info, mut words) = (Info::default(), [0; WORDS]);
    for (n, handle) in [region.handle(), weaker.handle()].into_iter().enumerate() {
        let transfer = Transfer { mode: TransferMode::Move, read_only: false };
        info = info.with_transfer(transfer).ok_or(Error::TooLarge)?;
        words[Transfer::word(n)] = handle.raw();
    }
    let given = raw::call(*receiver.endpoint, info.raw(), words).map(drop);
    refused(checks, "both", given, Error::KeysExhausted)?;
    checks.same(format_args!("what was open"), guard.read_u64(0)?, 5)?;
    drop(guard);
    full.pop();
    let given = receiver.ask_with(&Request::Keep, &[Offer::hand_over(region), Offer::hand_over(weaker)]);
    checks.same(format_args!("both, later"), given, Ok(Reply::Done))?;
    checks.same(format_args!("their receiver"), receiver.ask(&Request::Read), Ok(Reply::Word(5)))?;
    Ok("refused as a whole, and done later")
}

pub(super) fn shared(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(&tools.placed(Placement::Alone))?;
    let region = Region::create(8, None)?;
    let address = region.info()?.address;
    let private = tools.running("ipc_test")?.key;
    checks.same(format_args!("its key before"), Some(region.info()?.key), private)?;
    region.open_write()?.write_u64(0, 5)?;
    helper.ask_with(&Request::Keep, &[Offer::copy(*region)])?;
    checks.that(Some(region.info()?.key) != private, format_args!("shared, and under the private key"))?;
    checks.same(format_args!("read there"), helper.ask(&Request::Read)?, Reply::Word(5))?;
    helper.expect(&Request::Write(6), &Reply::Done)?;
    checks.same(format_args!("read here"), region.open_read()?.read_u64(0)?, 6)?;
    // Taken from it: it is shown there no longer, and it is private here again.
    region.revoke()?;
    checks.same(format_args!("its key after"), Some(region.info()?.key), private)?;
    let gone = helper.ask(&Request::Read);
    checks.that(gone != Ok(Reply::Word(6)), format_args!("read there after the revoke"))?;
    // Read-only there, read-write here.
    let reader = Helper::new(&tools.placed(Placement::Alone))?;
    reader.ask_with(&Request::Keep, &[Offer::copy(*region).read_only()])?;
    checks.same(format_args!("read"), reader.ask(&Request::Read)?, Reply::Word(6))?;
    let written = reader.ask(&Request::Write(7))?;
    checks.that(
        written == Reply::Failed(Error::RightsExceeded),
        format_args!("a reader's write gave {written:?}"),
    )?;
    region.open_write()?.write_u64(0, 8)?;
    checks.same(format_args!("read again"), reader.ask(&Request::Read)?, Reply::Word(8))?;
    checks.same(format_args!("the address"), region.info()?.address, address)?;
    // What it has never held it does not see at all.
    let secret = Region::create(8, None)?;
    let raw = secret.info()?.address;
    let thief = Helper::new(&tools.placed(Placement::Alone))?;
    let stolen = thief.ask(&Request::ReadAt(raw));
    checks.same(format_args!("a read of what it does not hold"), stolen, Err(Error::PeerDiedMidCall))?;
    let (state, fault) = end_of(*thief.domain)?;
    checks.same(format_args!("its end"), state, DomainState::Faulted)?;
    let seen = fault.map(|fault| (fault.kind, fault.address, fault.owner.as_deref() == Some("ipc_test")));
    checks.same(format_args!("its fault"), seen, Some((FaultKind::OtherView, raw, true)))?;
    Ok("one address, and in each view what its domains hold")
}

pub(super) fn roots(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let _first = First::bind()?;
    let loaded = |helper: &Helper| -> Run<u64> {
        let count = || -> Result<u64, Error> {
            tools.inspect.cpu(0)?.map(|cpu| cpu.roots_loaded).ok_or(Error::NotFound)
        };
        helper.ask(&Request::Badge)?;
        let before = count()?;
        for _ in 0..CALLS {
            helper.ask(&Request::Badge)?;
        }
        Ok(count()? - before)
    };
    // Others load some meanwhile: who reads the serial port, who keeps time. Without keys each way into the kernel and out of it loads
    // one, that of every interrupt too, of which there may be any number.
    let (within, beyond) = match tools.inspect.system()?.isolation {
        Isolation::Views => (4 * CALLS..=u64::MAX, 4 * CALLS..=u64::MAX),
        Isolation::Pks | Isolation::Pku => (0..=CALLS / 4, 2 * CALLS..=2 * CALLS + CALLS / 4),
    };
    let inside = loaded(&Helper::new(&tools.here())?)?;
    checks
        .that(within.contains(&inside), format_args!("{CALLS} calls inside a view loaded {inside} roots"))?;
    let across = loaded(&Helper::new(&tools.placed(Placement::Alone))?)?;
    checks.that(
        beyond.contains(&across),
        format_args!("{CALLS} calls into another view loaded {across} roots"),
    )?;
    Ok("as many as a call inside a view and one into another must")
}

pub(super) fn chain(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let alone = tools.placed(Placement::Alone);
    let far = Helper::serving(&alone, Endpoint::create()?, 1, None)?;
    let near = Helper::serving(&alone, Endpoint::create()?, 1, Some(*far.endpoint))?;
    let forward = Request::Forward { after_wait: false, holding: false, wait: false };
    // Over and over, so that the entry code remembers both connections and replies to both without the kernel.
    for round in 0..CALLS / 2 {
        let answer = near.ask(&forward);
        checks.same(format_args!("round {round}"), answer, Ok(Reply::Word(0)))?;
    }
    Ok("there and back, a hundred times")
}

pub(super) fn slots(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let audit = |when: &str| -> Run {
        let (pages, broken) = tools.self_test.audit()?;
        checks.that(pages > 0 && broken == 0, format_args!("{broken} of {pages} mappings are wrong {when}"))
    };
    for _ in 0..ROUNDS {
        // Numbers, and with them slots, come back in the other order; the view that is left stays, and is used again.
        let first = Helper::new(&tools.placed(Placement::Alone))?;
        let slot = tools.running("helper")?.base;
        drop(first);
        let here = Helper::new(&tools.here())?;
        checks.same(format_args!("the slot of the next one"), tools.running("helper")?.base, slot)?;
        audit("when its slot is a domain's here")?;
        let alone = Helper::new(&tools.placed(Placement::Alone))?;
        drop(here);
        let other = Helper::new(&tools.placed(Placement::Alone))?;
        audit("when it is one's in a third view")?;
        drop((alone, other));
        audit("when it is nobody's")?;
    }
    Ok("of one view after the other, and shown in no other")
}
