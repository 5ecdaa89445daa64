//! Threads that a scenario makes fault. Each has a notification of its own, where its faults and steps arrive.

use alloc::boxed::Box;
use core::cell::Cell;
use core::time::Duration;

use libpks::abi::Error;
use libpks::abi::fault::{FaultAccess, FaultKind, FaultReport};
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::SERVER;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Notification, Owned, ReadGuard, Region, Thread, WriteGuard, time};

use crate::bench::Tools;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// The subject stands at a fault.
pub(crate) const FAULT: u64 = 1;
/// The subject has ended.
pub(crate) const DONE: u64 = 2;
/// The subject has come to where its body signals this.
pub(crate) const STEP: u64 = 4;

const STACK: u64 = 32 * 1024;
/// How long a subject may take for a step, three other CPUs being emulated beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// A thread under test. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Subject<T> {
    handle: JoinHandle<Result<T, Error>>,
    note: Owned<Notification>,
    pending: Cell<u64>,
}

impl<T: Send + 'static> Subject<T> {
    /// Starts a thread, bound to `cpu` if there is one, whose faults come to this side.
    pub(crate) fn start(
        tools: &Tools,
        cpu: Option<u32>,
        body: impl FnOnce(Notification) -> Result<T, Error> + Send + 'static,
    ) -> Run<Self> {
        let note = Notification::create()?;
        let signals = *note;
        let run = move || {
            let thread = Thread::current()?;
            thread.on_fault(signals, FAULT)?;
            if cpu.is_some() {
                thread.bind(cpu)?;
            }
            // Who is killed at a fault drops nothing any more.
            drop(thread);
            body(signals)
        };
        let handle = spawn(STACK, tools.priority, move || {
            let result = run();
            let _ = signals.signal(DONE);
            result
        })?;
        Ok(Self { handle, note, pending: Cell::new(0) })
    }

    /// The thread.
    pub(crate) fn thread(&self) -> Thread {
        self.handle.thread()
    }

    /// Waits until one of the `wanted` bits comes, and takes it. A fault or an end that is not wanted stops the
    /// scenario.
    pub(crate) fn until(&self, wanted: u64) -> Run<u64> {
        let until = Instant::after(PATIENCE);
        loop {
            let pending = self.pending.get();
            if pending & wanted != 0 {
                self.pending.set(pending & !wanted);
                return Ok(pending & wanted);
            }
            if pending & FAULT != 0 {
                let report = self.report()?;
                return Err(Stop::failed(format_args!("unexpected fault: {}", Short(&report))));
            }
            if pending & DONE != 0 {
                let why = self.handle.join(Some(until))?.err();
                return Err(Stop::failed(format_args!("a thread ended early: {why:?}")));
            }
            match self.note.wait(Some(until)) {
                Ok(bits) => self.pending.set(pending | bits),
                Err(Error::TimedOut) => {
                    return Err(Stop::failed(format_args!(
                        "a thread did not come to step {wanted:#x} in time"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The fault at which it stands.
    pub(crate) fn report(&self) -> Run<Box<FaultReport>> {
        Ok(self.thread().fault()?)
    }

    /// Waits for its end and gives what its body gave.
    pub(crate) fn finish(self) -> Run<T> {
        self.until(DONE)?;
        Ok(self.handle.join(Some(Instant::after(PATIENCE)))??)
    }
}

impl<T> Drop for Subject<T> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.handle.thread().kill();
    }
}

/// What an opened region is held by.
#[derive(Debug)]
pub(crate) enum Held {
    Nothing,
    Read(#[expect(dead_code, reason = "its drop closes")] ReadGuard),
    Write(#[expect(dead_code, reason = "its drop closes")] WriteGuard),
}

/// Opens a region for the calling thread with these rights.
pub(crate) fn open(region: Region, rights: Rights) -> Result<Held, Error> {
    Ok(match rights {
        Rights::NoAccess => Held::Nothing,
        Rights::ReadOnly => Held::Read(region.open_read()?),
        Rights::ReadWrite => Held::Write(region.open_write()?),
    })
}

/// One access as a thread of its own makes it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) raw: Unguarded,
    pub(crate) offset: u64,
    pub(crate) access: Access,
    /// What is written.
    pub(crate) value: u64,
    /// What the thread opens before.
    pub(crate) opened: heapless::Vec<(Region, Rights), 16>,
    pub(crate) cpu: Option<u32>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Came {
    /// It was done; the value read, or written.
    Through(u64),
    /// It faulted.
    Fault(Box<FaultReport>),
}

/// The access itself.
pub(crate) fn access(raw: &Unguarded, offset: u64, access: Access, value: u64) -> Result<u64, Error> {
    match access {
        Access::Read => raw.read_u64(offset),
        Access::Write => raw.write_u64(offset, value).map(|()| value),
    }
}

impl Attempt {
    /// Makes it, in a new thread.
    pub(crate) fn make(self, tools: &Tools) -> Run<Came> {
        let subject = Subject::start(tools, self.cpu, move |_| {
            let mut held = heapless::Vec::<Held, 16>::new();
            for (region, rights) in &self.opened {
                let _ = held.push(open(*region, *rights)?);
            }
            access(&self.raw, self.offset, self.access, self.value)
        })?;
        match subject.until(DONE | FAULT)? {
            FAULT => Ok(Came::Fault(subject.report()?)),
            _ => {
                subject.pending.set(DONE);
                Ok(Came::Through(subject.finish()?))
            }
        }
    }
}

/// Checks that a report is of a key fault of this kind, in every field that tells.
pub(crate) fn check_key_fault(
    checks: &Checks,
    report: &FaultReport,
    address: u64,
    access: Access,
    key: Pkey,
    word: Pkrs,
) -> Run {
    check_key_fault_of(checks, SERVER, report, address, access, key, word)
}

/// The same of a domain of this name.
pub(crate) fn check_key_fault_of(
    checks: &Checks,
    domain: &str,
    report: &FaultReport,
    address: u64,
    access: Access,
    key: Pkey,
    word: Pkrs,
) -> Run {
    let (fault_access, code) = match access {
        Access::Read => (FaultAccess::Read, 0x21),
        Access::Write => (FaultAccess::Write, 0x23),
    };
    let same = report.kind == FaultKind::ProtectionKey
        && report.domain_name == domain
        && report.access == fault_access
        && report.address == address
        && report.error_code == code
        && report.key == Some(key.index());
    checks.that(
        same,
        format_args!(
            "a key fault ({access} at {address:#x}, key {key}, code {code:#x}), but: {}",
            Short(report)
        ),
    )?;
    checks.same(format_args!("the word on record at the fault"), report.pkrs, word.raw())?;
    checks.same(format_args!("the CPU's word at the fault"), report.pkrs_live, word.raw())
}

/// Looks every millisecond whether something has come true.
pub(crate) fn wait_for(
    checks: &Checks,
    what: core::fmt::Arguments<'_>,
    is_so_fn: impl Fn() -> Result<bool, Error>,
) -> Run {
    let until = Instant::after(PATIENCE);
    while Instant::now() < until {
        if is_so_fn()? {
            return checks.that(true, what);
        }
        time::sleep(Duration::from_millis(1))?;
    }
    checks.that(false, format_args!("{what} did not come in time"))
}

/// A report in a line.
pub(crate) struct Short<'a>(pub(crate) &'a FaultReport);

impl core::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let FaultReport { domain_name, kind, access, address, error_code, key, pkrs, pkrs_live, rip, .. } =
            self.0;
        write!(
            f,
            "{kind:?} {access:?} by {domain_name} at {address:#x}, code {error_code:#x}, key {key:?}, \
             word {pkrs:#010x}, live {pkrs_live:#010x}, rip {rip:#x}"
        )
    }
}
