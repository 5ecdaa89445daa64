//! P7: a thread goes to another CPU with a guard open, by its own will and while it runs without entering the kernel.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::{Thread, time};

use crate::bench::{Bound, Target, Tools};
use crate::subject::{FAULT, Subject, access, check_key_fault, open, wait_for};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Accesses that show that a thread gets on.
const PROGRESS: u64 = 100;

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (read, write) = (Target::new(tools)?, Target::new(tools)?);
    let word = tools.base_word()?.with(read.key, Rights::ReadOnly).with(write.key, Rights::ReadWrite);
    let (first, last) = (0, tools.cpus()?.saturating_sub(1));
    for (from, to) in [(first, last), (last, first)] {
        of_its_own_will(tools, checks, [&read, &write], word, [to, from, to])?;
        while_running(tools, checks, [&read, &write], word, from, to)?;
    }
    let raw = word.raw();
    Ok(match first == last {
        true => cut(format_args!("{raw:#010x} on the only CPU, bound to it anew")),
        false => cut(format_args!("{raw:#010x} went between CPU {first} and CPU {last} both ways")),
    })
}

/// The thread binds itself to one CPU after the other; the last look is by a fault, whose report names the CPU.
fn of_its_own_will(
    tools: &Tools,
    checks: &Checks,
    [read, write]: [&Target; 2],
    word: Pkrs,
    route: [u32; 3],
) -> Run {
    let inside = *tools;
    let (regions, raws) = ((*read.region, *write.region), (read.raw, write.raw));
    let seen = Arc::new(libpks::rt::sync::Mutex::new(heapless::Vec::<Pkrs, 3>::new()));
    let notes = Arc::clone(&seen);
    let subject = Subject::start(tools, Some(route[1]), move |_| {
        let _read = open(regions.0, Rights::ReadOnly)?;
        let _write = open(regions.1, Rights::ReadWrite)?;
        let thread = Thread::current()?;
        for cpu in route {
            thread.bind(Some(cpu))?;
            // Refused if the thread is elsewhere.
            let _ = notes.lock().push(inside.words(cpu)?.interrupted);
            access(&raws.0, 8, Access::Read, 0)?;
            access(&raws.1, 8, Access::Write, u64::from(cpu))?;
        }
        // Who is killed at a fault drops nothing any more.
        drop(thread);
        access(&raws.0, 8, Access::Write, u64::MAX)
    })?;
    subject.until(FAULT)?;
    let report = subject.report()?;
    checks.same(format_args!("words on CPUs {route:?}"), seen.lock().as_slice(), &[word; 3])?;
    checks.same(format_args!("the CPU of the fault"), report.cpu, route[2])?;
    check_key_fault(checks, &report, read.address() + 8, Access::Write, read.key, word)
}

/// The thread runs in a loop without the kernel, and somebody else binds it to another CPU.
fn while_running(
    tools: &Tools,
    checks: &Checks,
    [read, write]: [&Target; 2],
    word: Pkrs,
    from: u32,
    to: u32,
) -> Run {
    let _bound = Bound::to(0)?;
    let (made, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, ends) = (Arc::clone(&made), Arc::clone(&stop));
    let (regions, raws) = ((*read.region, *write.region), (read.raw, write.raw));
    let subject = Subject::start(tools, Some(from), move |_| {
        let _read = open(regions.0, Rights::ReadOnly)?;
        let _write = open(regions.1, Rights::ReadWrite)?;
        while !ends.load(Ordering::Acquire) {
            access(&raws.0, 16, Access::Read, 0)?;
            access(&raws.1, 16, Access::Write, 1)?;
            count.fetch_add(1, Ordering::Release);
        }
        access(&raws.0, 16, Access::Write, u64::MAX)
    })?;
    for cpu in [None, Some(to)] {
        if cpu.is_some() {
            subject.thread().bind(cpu)?;
        }
        let mark = made.load(Ordering::Acquire);
        wait_for(checks, format_args!("a running thread that goes from CPU {from} to {to} gets on"), || {
            Ok(made.load(Ordering::Acquire) >= mark + PROGRESS)
        })?;
    }
    stop.store(true, Ordering::Release);
    time::yield_now();
    subject.until(FAULT)?;
    let report = subject.report()?;
    checks.same(format_args!("the CPU of the fault"), report.cpu, to)?;
    check_key_fault(checks, &report, read.address() + 16, Access::Write, read.key, word)
}
