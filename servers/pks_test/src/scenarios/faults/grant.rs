//! P11: what is granted at a fault holds for that thread, as far as it was granted, until it is taken back.

use libpks::pkey::{Access, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;
use libpks::rt::{Instant, Notification};

use crate::bench::{Target, Tools};
use crate::scenarios::access::matrix::{MATRIX, Setting, by_thread};
use crate::subject::{FAULT, PATIENCE, STEP, Subject, access, check_key_fault};
use libpks::proto::pks_test::checks::{Checks, Run};

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let (raw, gate) = (target.raw, Notification::create()?);
    let goes = *gate;
    target.put(8, 3)?;
    let subject = Subject::start(tools, None, move |signals| {
        // Read by the first grant, twice; written by the second, twice; then what was taken back.
        let read = [access(&raw, 8, Access::Read, 0)?, access(&raw, 8, Access::Read, 0)?];
        signals.signal(STEP)?;
        goes.wait(Some(Instant::after(PATIENCE)))?;
        access(&raw, 8, Access::Write, 4)?;
        access(&raw, 8, Access::Write, 5)?;
        signals.signal(STEP)?;
        goes.wait(Some(Instant::after(PATIENCE)))?;
        Ok(read)
    })?;
    let base = tools.base_word()?;
    let grant = |opening| -> Run {
        subject.thread().set_rights(*target.region, opening)?;
        Ok(subject.thread().resume()?)
    };
    let fault = |how, rights| -> Run {
        subject.until(FAULT)?;
        let word = base.with(target.key, rights);
        check_key_fault(checks, &*subject.report()?, target.address() + 8, how, target.key, word)
    };
    fault(Access::Read, Rights::NoAccess)?;
    grant(Opening::ReadOnly)?;
    // A second fault would stop the scenario in `until`.
    subject.until(STEP)?;
    others_fault(tools, checks, &target)?;
    target.put(8, 3)?;
    gate.signal(1)?;
    fault(Access::Write, Rights::ReadOnly)?;
    grant(Opening::ReadWrite)?;
    subject.until(STEP)?;
    checks.same(format_args!("after two writes"), target.get(8)?, 5)?;
    others_fault(tools, checks, &target)?;
    gate.signal(1)?;
    checks.same(format_args!("what it read"), subject.finish()?, [3, 3])?;
    // It has ended, and its grant with it.
    others_fault(tools, checks, &target)?;
    taken_back(tools, checks, &target)?;
    Ok(cut(format_args!("read granted, then write; one fault each; other threads faulted throughout")))
}

/// The rows without rights hold for any other thread.
fn others_fault(tools: &Tools, checks: &Checks, target: &Target) -> Run {
    let closed = MATRIX.into_iter().filter(|row| row.rights == Rights::NoAccess);
    closed.into_iter().try_for_each(|row| by_thread(tools, checks, target, row, Setting::default()))
}

/// A grant that is taken back while the thread stands at another fault: it faults once more where it had gone on.
fn taken_back(tools: &Tools, checks: &Checks, target: &Target) -> Run {
    let other = Target::new(tools)?;
    let (raw, second) = (target.raw, other.raw);
    target.put(8, 6)?;
    let subject = Subject::start(tools, None, move |_| {
        access(&raw, 8, Access::Read, 0)?;
        access(&second, 8, Access::Read, 0)?;
        access(&raw, 8, Access::Read, 0)
    })?;
    let base = tools.base_word()?;
    let open = |target: &Target| base.with(target.key, Rights::ReadOnly);
    for (at, word, given) in [(target, base, target), (&other, open(target), &other)] {
        subject.until(FAULT)?;
        check_key_fault(checks, &*subject.report()?, at.address() + 8, Access::Read, at.key, word)?;
        subject.thread().set_rights(*given.region, Opening::ReadOnly)?;
        if at.key == other.key {
            subject.thread().set_rights(*target.region, Opening::None)?;
        }
        subject.thread().resume()?;
    }
    subject.until(FAULT)?;
    let report = subject.report()?;
    check_key_fault(checks, &report, target.address() + 8, Access::Read, target.key, open(&other))?;
    subject.thread().set_rights(*target.region, Opening::ReadOnly)?;
    subject.thread().resume()?;
    checks.same(format_args!("what it read in the end"), subject.finish()?, 6)
}
