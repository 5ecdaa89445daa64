//! P9, the part above the kernel: handlers of faults that fault themselves, nine threads deep, each with a word of
//! its own; and a handler that an interrupt comes into.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::abi::Error;
use libpks::abi::fault::FaultReport;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::rt::region::Access as Opening;
use libpks::rt::{Region, time};

use crate::bench::{Target, Tools};
use crate::subject::{FAULT, PATIENCE, Subject, access, check_key_fault, open};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// Handlers above the first thread.
const DEPTH: usize = 8;
const KINDS: [Rights; 3] = [Rights::NoAccess, Rights::ReadOnly, Rights::ReadWrite];

/// What the threads of a chain share.
#[derive(Clone)]
struct Link {
    tools: Tools,
    cpu: u32,
    /// Two pages whose rights make each thread's word its own.
    marks: [Region; 2],
    /// The page at which all of them fault.
    cause: Region,
    raw: libpks::rt::unguarded::Unguarded,
    /// Counts up on the same CPU: only an interrupt can bring it on while a handler runs.
    ticks: Arc<AtomicU64>,
}

/// What one thread of the chain saw.
#[derive(Debug)]
struct Look {
    before: Pkrs,
    after: Pkrs,
    /// The fault that it handled, as it was reported before and after its own fault.
    handled: Option<[Box<FaultReport>; 2]>,
}

/// What a thread gives in the end: the looks of all threads below it, and its own.
type Looks = Result<Vec<Look>, Stop>;

/// The rights of a level's thread to the two marks. No two levels have the same.
const fn rights_of(level: usize) -> [Rights; 2] {
    [KINDS[level % 3], KINDS[level / 3 % 3]]
}

/// Faults on top of faults on this CPU; then all go on, the last first.
pub(super) fn run(tools: &Tools, checks: &Checks, cpu: u32) -> Run<usize> {
    let (marks, cause) = ([Target::new(tools)?, Target::new(tools)?], Target::new(tools)?);
    let link = Link {
        tools: *tools,
        cpu,
        marks: [*marks[0].region, *marks[1].region],
        cause: *cause.region,
        raw: cause.raw,
        ticks: Arc::new(AtomicU64::new(0)),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (ends, ticks) = (Arc::clone(&stop), Arc::clone(&link.ticks));
    let ticker = Subject::start(tools, Some(cpu), move |_| {
        while !ends.load(Ordering::Acquire) {
            ticks.fetch_add(1, Ordering::Release);
            time::yield_now();
        }
        Ok(())
    })?;
    let mut top = link.start(0, None)?;
    for level in 1..=DEPTH {
        top = link.start(level, Some(top))?;
    }
    top.until(FAULT)?;
    let standing = standing(tools)?;
    checks.same(format_args!("threads that stand at a fault"), standing, DEPTH + 1)?;
    grant(&top, *cause.region)?;
    let looks = top.finish()??;
    stop.store(true, Ordering::Release);
    ticker.finish()?;
    let base = tools.base_word()?;
    let word = |level: usize| {
        let [one, two] = rights_of(level);
        base.with(marks[0].key, one).with(marks[1].key, two)
    };
    checks.same(format_args!("levels"), looks.len(), DEPTH + 1)?;
    for (level, look) in looks.into_iter().enumerate() {
        checks.same(format_args!("word of level {level} before its fault"), look.before, word(level))?;
        let granted = word(level).with(cause.key, Rights::ReadWrite);
        checks.same(format_args!("word of level {level} after it"), look.after, granted)?;
        let Some(below) = level.checked_sub(1) else { continue };
        let reports = look.handled.ok_or(Error::NotFound)?;
        for report in &reports {
            check_key_fault(checks, report, cause.address(), Access::Write, cause.key, word(below))?;
        }
    }
    Ok(DEPTH)
}

impl Link {
    /// A thread of the chain. It waits for the fault of the one below, takes an interrupt, faults itself, and when it goes
    /// on lets the one below go on.
    fn start(&self, level: usize, below: Option<Subject<Looks>>) -> Run<Subject<Looks>> {
        let link = self.clone();
        Subject::start(&self.tools, Some(self.cpu), move |_| Ok(link.run(level, below)))
    }

    fn run(self, level: usize, below: Option<Subject<Looks>>) -> Looks {
        let report = |below: &Subject<Looks>| below.report();
        let first = match &below {
            None => None,
            Some(below) => {
                below.until(FAULT)?;
                Some(report(below)?)
            }
        };
        let [one, two] = rights_of(level);
        let _held = [open(self.marks[0], one)?, open(self.marks[1], two)?];
        let before = self.tools.words(self.cpu)?.interrupted;
        if level == 1 {
            self.take_interrupt()?;
        }
        access(&self.raw, 0, Access::Write, level as u64)?;
        let after = self.tools.words(self.cpu)?.interrupted;
        let (mut looks, mut handled) = (Vec::new(), None);
        if let (Some(below), Some(first)) = (below, first) {
            handled = Some([first, report(&below)?]);
            grant(&below, self.cause)?;
            looks = below.finish()??;
        }
        looks.push(Look { before, after, handled });
        Ok(looks)
    }

    /// Runs without entering the kernel until another thread of this CPU has run twice.
    fn take_interrupt(&self) -> Run {
        let (mark, until) = (self.ticks.load(Ordering::Acquire), libpks::rt::Instant::after(PATIENCE));
        while self.ticks.load(Ordering::Acquire) < mark + 2 {
            for _ in 0..10_000 {
                core::hint::spin_loop();
            }
            if libpks::rt::Instant::now() > until {
                return Err(Stop::failed(format_args!("no interrupt came into a handler")));
            }
        }
        Ok(())
    }
}

/// Gives a thread what it lacks, and lets it go on.
fn grant(subject: &Subject<Looks>, cause: Region) -> Result<(), Error> {
    subject.thread().set_rights(cause, Opening::ReadWrite)?;
    subject.thread().resume()
}

/// How many threads of this domain stand at a fault.
fn standing(tools: &Tools) -> Run<usize> {
    let mut count = 0;
    for thread in tools.inspect.threads() {
        let thread = thread?;
        let faulted = thread.state == libpks::abi::inspect::ThreadState::Faulted;
        count += usize::from(faulted && thread.home == libpks::proto::pks_test::SERVER);
    }
    Ok(count)
}
