//! P8 and P10: what the handler of a fault opens is its own, and what the faulting thread had open is not the
//! handler's, with several keys in different states on both sides.

use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;

use crate::bench::{Bound, Innermost, Probed, Target, Tools};
use crate::subject::{Attempt, Came, FAULT, Subject, access, check_key_fault, open};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// P8: a thread with one key read-only and one closed faults at both in turn. The handler has both open, in yet another
/// way, at each fault and each resumption; the thread gets what is recorded for it, one key at a time.
pub(in crate::scenarios) fn two_keys(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (one, two) = (Target::new(tools)?, Target::new(tools)?);
    let base = tools.base_word()?;
    let last = tools.cpus()?.saturating_sub(1);
    for cpu in [0, last] {
        let _bound = Bound::to(0)?;
        let subject = faults_twice(tools, &one, &two, cpu)?;
        subject.until(FAULT)?;
        let armed = base.with(one.key, Rights::ReadOnly);
        check_key_fault(checks, &*subject.report()?, one.address(), Access::Write, one.key, armed)?;
        let (_one, _two) = (one.region.open_write()?, two.region.open_read()?);
        let mine = base.with(one.key, Rights::ReadWrite).with(two.key, Rights::ReadOnly);
        let handler = || checks.same(format_args!("handler's word"), tools.words(0)?.interrupted, mine);
        handler()?;
        checks.same(format_args!("word on record"), subject.report()?.pkrs, armed.raw())?;

        subject.thread().set_rights(*one.region, Opening::ReadWrite)?;
        subject.thread().resume()?;
        subject.until(FAULT)?;
        let first = base.with(one.key, Rights::ReadWrite);
        check_key_fault(checks, &*subject.report()?, two.address(), Access::Read, two.key, first)?;
        handler()?;

        subject.thread().set_rights(*two.region, Opening::ReadOnly)?;
        subject.thread().set_rights(*one.region, Opening::None)?;
        subject.thread().resume()?;
        let both = base.with(two.key, Rights::ReadOnly);
        checks.same(format_args!("thread's words"), subject.finish()?, [armed, both])?;
        handler()?;
        checks.same(format_args!("what the thread wrote"), one.get(0)?, u64::from(cpu) + 1)?;
    }
    Ok(cut(format_args!("keys {} and {}, changed one at a time, on CPUs 0 and {last}", one.key, two.key)))
}

/// Writes to the first page, reads the second; gives its words before and after.
fn faults_twice(tools: &Tools, one: &Target, two: &Target, cpu: u32) -> Run<Subject<[Pkrs; 2]>> {
    let (inside, region, raws) = (*tools, *one.region, (one.raw, two.raw));
    Subject::start(tools, Some(cpu), move |_| {
        let _held = open(region, Rights::ReadOnly)?;
        let before = inside.words(cpu)?.interrupted;
        access(&raws.0, 0, Access::Write, u64::from(cpu) + 1)?;
        access(&raws.1, 0, Access::Read, 0)?;
        Ok([before, inside.words(cpu)?.interrupted])
    })
}

/// P10: the handler opens a second key while the thread has a first one open: the first stays closed to the handler, to
/// a handler of the handler, and to the kernel's own handlers.
pub(in crate::scenarios) fn others_keys_stay_closed(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (mine, theirs, cause) = (Target::new(tools)?, Target::new(tools)?, Target::new(tools)?);
    let base = tools.base_word()?;
    let _bound = Bound::to(0)?;
    let (region, raws) = (*theirs.region, (theirs.raw, cause.raw));
    theirs.put(0, 9)?;
    let subject = Subject::start(tools, Some(0), move |_| {
        let _held = open(region, Rights::ReadWrite)?;
        access(&raws.1, 0, Access::Read, 0)?;
        access(&raws.0, 0, Access::Read, 0)
    })?;
    subject.until(FAULT)?;
    let armed = base.with(theirs.key, Rights::ReadWrite);
    check_key_fault(checks, &*subject.report()?, cause.address(), Access::Read, cause.key, armed)?;
    let _mine = mine.region.open_write()?;
    let word = base.with(mine.key, Rights::ReadWrite);
    checks.same(format_args!("handler's word"), tools.words(0)?.interrupted, word)?;
    // What a handler with that word may do, and what it may not, by handlers that come to harm.
    for (target, how, faults) in
        [(&theirs, Access::Read, true), (&theirs, Access::Write, true), (&mine, Access::Read, false)]
    {
        harm(tools, checks, &mine, target, how, faults, word)?;
    }
    // The kernel's handlers, while the thread stands at its fault.
    let kernel = u64::from(Pkrs::KERNEL.raw());
    checks.same(
        format_args!("words around a nested trap"),
        tools.nested_trap(1, Innermost::Returns, 0)?.words,
        [kernel; 4],
    )?;
    checks.same(format_args!("words in an NMI and after"), tools.nmi(0)?, [kernel; 2])?;
    for target in [&theirs, &mine] {
        let probed = tools.probe(target.address(), Pkrs::KERNEL, Access::Read, 0)?;
        let fault = Probed::Faulted { code: 0x21, cr2: target.address() };
        checks.same(format_args!("key {} under the kernel's word", target.key), probed, fault)?;
    }
    checks.same(format_args!("word on record in the end"), subject.report()?.pkrs, armed.raw())?;
    subject.thread().set_rights(*cause.region, Opening::ReadOnly)?;
    subject.thread().resume()?;
    checks.same(format_args!("what the thread reads with its own key"), subject.finish()?, 9)?;
    Ok(cut(format_args!("thread {:#010x}, handler {:#010x}", armed.raw(), word.raw())))
}

/// A handler that has its own key open accesses a page.
fn harm(
    tools: &Tools,
    checks: &Checks,
    mine: &Target,
    target: &Target,
    how: Access,
    faults: bool,
    word: Pkrs,
) -> Run {
    let opened = core::iter::once((*mine.region, Rights::ReadWrite)).collect();
    let attempt = Attempt { raw: target.raw, offset: 0, access: how, value: 1, opened, cpu: Some(0) };
    match attempt.make(tools)? {
        Came::Fault(report) if faults => {
            check_key_fault(checks, &report, target.address(), how, target.key, word)
        }
        Came::Through(_) if !faults => checks.that(true, format_args!("its own key")),
        came => Err(Stop::failed(format_args!("a handler's {how} under key {}: {came:?}", target.key))),
    }
}
