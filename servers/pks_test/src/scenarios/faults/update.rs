//! S7: rights that are put on record for a thread that faulted hold from then on, and for that thread alone.

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
    let (raw, go) = (target.raw, Notification::create()?);
    let goes = *go;
    let subject = Subject::start(tools, None, move |signals| {
        access(&raw, 8, Access::Write, 1)?;
        access(&raw, 8, Access::Write, 2)?;
        signals.signal(STEP)?;
        goes.wait(Some(Instant::after(PATIENCE)))?;
        access(&raw, 8, Access::Write, 3)?;
        access(&raw, 8, Access::Read, 0)
    })?;
    subject.until(FAULT)?;
    let word = tools.base_word()?;
    check_key_fault(checks, &*subject.report()?, target.address() + 8, Access::Write, target.key, word)?;
    subject.thread().set_rights(*target.region, Opening::ReadWrite)?;
    subject.thread().resume()?;
    // A second fault would stop the scenario here.
    subject.until(STEP)?;
    checks.same(format_args!("after two writes and one fault"), target.get(8)?, 2)?;
    // Meanwhile the first rows of the matrix, without rights, hold for any other thread.
    for row in MATRIX.into_iter().filter(|row| row.rights == Rights::NoAccess) {
        by_thread(tools, checks, &target, row, Setting::default())?;
    }
    go.signal(1)?;
    checks.same(format_args!("what the thread read in the end"), subject.finish()?, 3)?;
    for row in MATRIX.into_iter().filter(|row| row.rights == Rights::NoAccess) {
        by_thread(tools, checks, &target, row, Setting::default())?;
    }
    Ok(cut(format_args!("one fault, three writes; other threads faulted during and after")))
}
