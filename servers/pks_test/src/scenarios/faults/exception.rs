//! S5: a fault's handler has rights of its own, and the thread gets back what was recorded, bit for bit.
//!
//! The handler is a thread here: the kernel stops the one that faulted and tells the other. Two keys are open in
//! the thread, so that one of them must survive what is done about the other.

use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;

use crate::bench::{Bound, Target, Tools};
use crate::subject::{Attempt, Came, FAULT, Subject, access, check_key_fault, open};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

const BY_THREAD: u64 = 0x5354_4852;
const BY_HANDLER: u64 = 0x5348_414e;

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (faulty, other) = (Target::new(tools)?, Target::new(tools)?);
    let base = tools.base_word()?;
    let word = base.with(faulty.key, Rights::ReadOnly).with(other.key, Rights::ReadWrite);
    faulty.put(0, 0)?;
    let cpus = tools.cpus()?;
    for (cpu, handler_cpu) in [(0, 0), (cpus.saturating_sub(1), 0)] {
        one(tools, checks, &faulty, &other, word, cpu, handler_cpu)?;
    }
    Ok(cut(format_args!(
        "thread {:#010x}, handler {:#010x}, kernel {:#010x}",
        word.raw(),
        base.raw(),
        Pkrs::KERNEL.raw()
    )))
}

fn one(
    tools: &Tools,
    checks: &Checks,
    faulty: &Target,
    other: &Target,
    word: Pkrs,
    cpu: u32,
    handler_cpu: u32,
) -> Run {
    let _bound = Bound::to(handler_cpu)?;
    let subject = start(tools, faulty, other, cpu)?;
    subject.until(FAULT)?;
    check_key_fault(checks, &*subject.report()?, faulty.address(), Access::Write, faulty.key, word)?;

    handler(tools, checks, faulty, other, handler_cpu)?;
    let report = subject.report()?;
    checks.same(format_args!("the word on record after what the handler did"), report.pkrs, word.raw())?;

    subject.thread().set_rights(*faulty.region, Opening::ReadWrite)?;
    let granted = word.with(faulty.key, Rights::ReadWrite);
    checks.same(format_args!("the word on record with new rights"), subject.report()?.pkrs, granted.raw())?;
    subject.thread().resume()?;

    let [before, after] = subject.finish()?;
    checks.same(format_args!("the thread's word before the fault"), before, word)?;
    checks.same(format_args!("the thread's word after the fault"), after, granted)?;
    checks.same(format_args!("what the thread wrote"), faulty.get(0)?, BY_THREAD)?;
    checks.same(format_args!("what the handler wrote"), faulty.get(8)?, BY_HANDLER)
}

/// The thread: the first write faults, and is repeated when it goes on.
fn start(tools: &Tools, faulty: &Target, other: &Target, cpu: u32) -> Run<Subject<[Pkrs; 2]>> {
    let (inside, faulty_region, other_region) = (*tools, *faulty.region, *other.region);
    let (faulty_raw, other_raw) = (faulty.raw, other.raw);
    Subject::start(tools, Some(cpu), move |_| {
        let _faulty = open(faulty_region, Rights::ReadOnly)?;
        let _other = open(other_region, Rights::ReadWrite)?;
        let before = inside.words(cpu)?.interrupted;
        access(&faulty_raw, 0, Access::Write, BY_THREAD)?;
        // The rights that are on record now must serve for both pages.
        access(&faulty_raw, 0, Access::Write, BY_THREAD)?;
        access(&other_raw, 0, Access::Write, BY_THREAD)?;
        Ok([before, inside.words(cpu)?.interrupted])
    })
}

/// What the handler does: its own word is the default, and it opens and closes the key without the thread's
/// rights changing.
fn handler(tools: &Tools, checks: &Checks, faulty: &Target, other: &Target, cpu: u32) -> Run {
    let base = tools.base_word()?;
    let mine = |what: &str, expected: Pkrs| {
        let words = tools.words(cpu)?;
        checks.same(format_args!("the handler's word {what}"), words.interrupted, expected)?;
        checks.same(format_args!("the kernel's word {what}"), words.kernel, u64::from(Pkrs::KERNEL.raw()))?;
        checks.that(words.keys_on, format_args!("CR4 is {:#x}", words.cr4))
    };
    mine("at the fault", base)?;
    {
        let guard = faulty.region.open_write()?;
        mine("with the key open", base.with(faulty.key, Rights::ReadWrite))?;
        guard.write_u64(8, BY_HANDLER)?;
    }
    mine("with the key closed again", base)?;
    let attempt = Attempt {
        raw: other.raw,
        offset: 0,
        access: Access::Read,
        value: 0,
        opened: heapless::Vec::new(),
        cpu: Some(cpu),
    };
    match attempt.make(tools)? {
        Came::Fault(report) => {
            check_key_fault(checks, &report, other.address(), Access::Read, other.key, base)
        }
        Came::Through(_) => Err(Stop::failed(format_args!("the thread's rights have become everyone's"))),
    }
}
