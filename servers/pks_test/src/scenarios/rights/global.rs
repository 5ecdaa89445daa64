//! S6 and S8: rights that all threads of the domain get.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use libpks::abi::Error;
use libpks::pkey::{Access, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;
use libpks::rt::{Instant, Notification, time};

use crate::bench::{Bound, Target, Tools};
use crate::scenarios::access::matrix::{MATRIX, Setting, by_thread};
use crate::subject::{DONE, FAULT, PATIENCE, STEP, Subject, access, check_key_fault, open};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// How long the second thread sleeps where it sleeps at all.
const NAP: Duration = Duration::from_millis(20);

/// S6: whatever a thread has armed, nothing faults while all threads have all rights.
pub(in crate::scenarios) fn abandon(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    no_rights_fault(tools, checks, &target)?;
    for row in MATRIX {
        for arms_before in [false, true] {
            for nap in [None, Some(NAP)] {
                let value = abandoned(tools, &target, row.rights, row.access, arms_before, nap)?;
                let what = format_args!("{} with {}, armed before: {arms_before}", row.access, row.rights);
                checks.same(format_args!("{what}: value"), value, 7)?;
                checks.same(format_args!("{what}: memory"), target.get(8)?, 7)?;
            }
        }
    }
    no_rights_fault(tools, checks, &target)?;
    Ok(cut(format_args!("24 accesses without a fault, and faults before and after")))
}

/// The rows without rights, as a control.
fn no_rights_fault(tools: &Tools, checks: &Checks, target: &Target) -> Run {
    let none = MATRIX.into_iter().filter(|row| row.rights == Rights::NoAccess);
    none.into_iter().try_for_each(|row| by_thread(tools, checks, target, row, Setting::default()))
}

/// All threads get all rights, before or after one of them arms; then that one accesses.
fn abandoned(
    tools: &Tools,
    target: &Target,
    rights: Rights,
    how: Access,
    arms_before: bool,
    nap: Option<Duration>,
) -> Run<u64> {
    let go = Notification::create()?;
    let (region, raw, goes) = (*target.region, target.raw, *go);
    // A read must find what a write would leave.
    target.put(8, if how == Access::Read { 7 } else { 0 })?;
    if !arms_before {
        region.open_global(Opening::ReadWrite)?;
    }
    let subject = Subject::start(tools, None, move |signals| {
        let _held = open(region, rights)?;
        signals.signal(STEP)?;
        goes.wait(Some(Instant::after(PATIENCE)))?;
        if let Some(nap) = nap {
            time::sleep(nap)?;
        }
        access(&raw, 8, how, 7)
    })?;
    subject.until(STEP)?;
    if arms_before {
        region.open_global(Opening::ReadWrite)?;
    }
    go.signal(1)?;
    // A fault stops the scenario here.
    let value = subject.finish();
    region.open_global(Opening::None)?;
    value
}

/// What the mailbox between the two threads of S8 says.
const WAIT: u32 = 0;
const READY: u32 = 1;
const GO: u32 = 2;

/// S8: rights of all threads change under a thread that is running on another CPU and does not enter the kernel.
pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let other = tools.cpus()?.saturating_sub(1);
    let _bound = Bound::to(0)?;
    let changes = [
        (Opening::None, Opening::ReadWrite),
        (Opening::None, Opening::ReadOnly),
        (Opening::ReadOnly, Opening::ReadWrite),
        (Opening::ReadWrite, Opening::ReadOnly),
        (Opening::ReadOnly, Opening::None),
        (Opening::ReadWrite, Opening::None),
    ];
    for (from, to) in changes {
        for how in [Access::Read, Access::Write] {
            change(tools, checks, &target, other, from, to, how)?;
        }
    }
    target.region.open_global(Opening::None)?;
    let place = if other == 0 { "the only CPU" } else { "another CPU" };
    Ok(cut(format_args!("12 changes seen by a thread running on {place}")))
}

fn change(
    tools: &Tools,
    checks: &Checks,
    target: &Target,
    cpu: u32,
    from: Opening,
    to: Opening,
    how: Access,
) -> Run {
    target.put(8, 1)?;
    target.region.open_global(from)?;
    let mailbox = Arc::new(AtomicU32::new(WAIT));
    let (raw, letters) = (target.raw, Arc::clone(&mailbox));
    let subject = Subject::start(tools, Some(cpu), move |_| {
        // What was allowed before must have worked before.
        if from != Opening::None {
            access(&raw, 8, Access::Read, 0)?;
        }
        if from == Opening::ReadWrite {
            access(&raw, 8, Access::Write, 1)?;
        }
        letters.store(READY, Ordering::Release);
        while letters.load(Ordering::Acquire) != GO {
            core::hint::spin_loop();
        }
        access(&raw, 8, how, 2)
    })?;
    wait_until(&mailbox, READY)?;
    target.region.open_global(to)?;
    mailbox.store(GO, Ordering::Release);
    let event = subject.until(DONE | FAULT)?;
    let rights = match to {
        Opening::None => Rights::NoAccess,
        Opening::ReadOnly => Rights::ReadOnly,
        Opening::ReadWrite => Rights::ReadWrite,
    };
    let must_fault = match how {
        Access::Read => to == Opening::None,
        Access::Write => to != Opening::ReadWrite,
    };
    let what = format_args!("{from:?} to {to:?}, {how} on CPU {cpu}");
    checks.same(format_args!("{what}: faulted"), event == FAULT, must_fault)?;
    if must_fault {
        let word = tools.base_word()?.with(target.key, rights);
        check_key_fault(checks, &*subject.report()?, target.address() + 8, how, target.key, word)?;
    }
    let expected = if how == Access::Write && !must_fault { 2 } else { 1 };
    checks.same(format_args!("{what}: memory"), target.get(8)?, expected)
}

fn wait_until(mailbox: &AtomicU32, letter: u32) -> Run {
    let until = Instant::after(PATIENCE);
    while mailbox.load(Ordering::Acquire) != letter {
        if Instant::now() > until {
            return Err(Stop::failed(format_args!("the second thread did not come to its place")));
        }
        time::sleep(Duration::from_millis(1)).map_err(|error: Error| Stop::from(error))?;
    }
    Ok(())
}
