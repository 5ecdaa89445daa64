//! P19: every mapping is as the rules say, and nothing closes key 0, under which the CPU's own tables lie.

use libpks::abi::Error;
use libpks::abi::layout::KERNEL_BASE;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;
use libpks::rt::{Capability, Handle, Key, Region};

use crate::bench::{Bound, Target, Tools};
use crate::scenarios::access::matrix::all_targets;
use crate::subject::{FAULT, Subject, access};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Pages that a system has at the least.
const LEAST_PAGES: u64 = 100;

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let pages = check_audit(tools, checks)?;
    key_0_stays_open(tools, checks)?;
    own_pages(tools, checks)?;
    let again = check_audit(tools, checks)?;
    Ok(cut(format_args!("{pages} and {again} pages; nothing closed key 0")))
}

/// No mapping breaks a rule; gives how many there are.
pub(in crate::scenarios) fn check_audit(tools: &Tools, checks: &Checks) -> Run<u64> {
    let (pages, broken) = tools.audit()?;
    checks.same(format_args!("rules that a mapping breaks"), broken, 0)?;
    checks.that(pages > LEAST_PAGES, format_args!("only {pages} pages were looked at"))?;
    Ok(pages)
}

/// Everything in the interface that takes rights away, and every key that can be had: key 0 stays open in the word.
fn key_0_stays_open(tools: &Tools, checks: &Checks) -> Run {
    let _bound = Bound::to(0)?;
    let open = |when: &str| -> Run {
        let word = tools.words(0)?.interrupted;
        checks.same(format_args!("key 0 {when}"), word.rights(Pkey::OPEN), Rights::ReadWrite)
    };
    open("at first")?;
    let mut targets = all_targets(tools)?;
    for target in &targets {
        checks.that(target.key > Pkey::KERNEL, format_args!("the pool gave key {}", target.key))?;
        let _held = target.region.open_read()?;
        target.region.open_global(Opening::None)?;
        open("with a key open and closed for all")?;
    }
    // Keys that were made up: numbers of keys are no capabilities.
    for number in [0, 1, u64::from(u32::MAX)] {
        let forged = Key::from_handle(Handle::from_raw(number));
        let made = Region::create(8, Some(forged)).map(drop);
        // 0 asks for no key in particular.
        let expected = if number == 0 { Ok(()) } else { Err(Error::NoSuchCapability) };
        checks.same(format_args!("a region under key capability {number}"), made, expected)?;
    }
    let target = targets.pop().ok_or(Error::KeysExhausted)?;
    let raw = target.raw;
    let subject = Subject::start(tools, None, move |_| access(&raw, 0, Access::Read, 0))?;
    subject.until(FAULT)?;
    subject.thread().set_rights(*target.region, Opening::None)?;
    let recorded = Pkrs::from_raw(subject.report()?.pkrs);
    checks.same(
        format_args!("key 0 of a thread without rights"),
        recorded.rights(Pkey::OPEN),
        Rights::ReadWrite,
    )?;
    // Not even SelfTest runs anything under a word that closes it: the CPU could not take a trap.
    let closed = tools.probe(target.address(), Pkrs::CLOSED, Access::Read, 0).map(drop);
    checks.same(format_args!("a probe under a word without key 0"), closed, Err(Error::InvalidArgument))?;
    let word = tools.tamper_with_word(Pkrs::CLOSED);
    checks.same(format_args!("a word without key 0"), word, Err(Error::InvalidArgument))?;
    open("in the end")
}

/// What the audit says of three pages, looked at one by one.
fn own_pages(tools: &Tools, checks: &Checks) -> Run {
    let target = Target::new(tools)?;
    let expected = [
        ("a region's page", target.address(), target.key),
        ("the gates", KERNEL_BASE, Pkey::KERNEL),
        ("the kernel's data", tools.kernel_page()?, Pkey::KERNEL),
    ];
    for (what, address, key) in expected {
        let leaf = tools.leaf(address)?;
        checks.same(
            format_args!("{what}: key, and out of its reach or not"),
            (leaf.key(), leaf.unkeyed),
            (key, false),
        )?;
    }
    Ok(())
}
