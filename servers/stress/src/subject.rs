//! A thread that opens, closes, reads and writes as it is told.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::Error;
use libpks::rt::sync::Mutex;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Capability, Instant, Notification, Owned, ReadGuard, Region, Thread, WriteGuard};

use crate::errand::{Answer, Seen};

const STACK: u64 = 16 * 1024;
/// How long a thread may take for an order. A machine under load must not be taken for a hang.
const PATIENCE: Duration = Duration::from_secs(20);
const DONE: u64 = 1;
const FAULT: u64 = 2;
const GO: u64 = 1;

/// What it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Open(Region, bool),
    Close(usize),
    Read(u64),
    Write(u64, u64),
}

#[derive(Default)]
struct Desk {
    order: Option<Order>,
    answer: Option<Result<Answer, Error>>,
}

/// The thread, from outside.
pub(crate) struct Subject {
    handle: JoinHandle<()>,
    desk: Arc<Mutex<Desk>>,
    go: Owned<Notification>,
    told: Owned<Notification>,
}

enum Guard {
    Read { _guard: ReadGuard },
    Write { _guard: WriteGuard },
}

impl Subject {
    /// Starts it.
    pub(crate) fn start(priority: u8) -> Result<Self, Error> {
        let (go, told) = (Notification::create()?, Notification::create()?);
        let desk = Arc::new(Mutex::new(Desk::default()));
        let (own_desk, own_go, own_told) = (Arc::clone(&desk), *go, *told);
        let handle = spawn(STACK, priority, move || {
            // Whoever started it waits for this signal, and for no other in vain.
            if Thread::current().and_then(|own| own.on_fault(own_told, FAULT)).is_ok() {
                let _ = own_told.signal(DONE);
                obey(&own_desk, own_go, own_told);
            }
        })?;
        let subject = Self { handle, desk, go, told };
        match subject.told.wait(Some(Instant::after(PATIENCE)))? {
            DONE => Ok(subject),
            _ => Err(Error::WrongState),
        }
    }

    pub(crate) fn thread(&self) -> Thread {
        self.handle.thread()
    }

    /// Has an order carried out.
    pub(crate) fn run(&self, order: Order) -> Result<Answer, Error> {
        self.desk.lock().order = Some(order);
        self.go.signal(GO)?;
        self.outcome()
    }

    /// Waits for what comes of an order.
    pub(crate) fn outcome(&self) -> Result<Answer, Error> {
        match self.told.wait(Some(Instant::after(PATIENCE)))? {
            DONE => self.desk.lock().answer.take().unwrap_or(Err(Error::WrongState)),
            FAULT => {
                let report: Box<_> = self.thread().fault()?;
                Ok(Answer::Fault(Seen::of(&report)))
            }
            _ => Err(Error::WrongState),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have gone with its domain.
        let _ = self.thread().kill();
    }
}

fn obey(desk: &Mutex<Desk>, go: Notification, told: Notification) {
    let mut guards: Vec<Guard> = Vec::new();
    while go.wait(None).is_ok() {
        let Some(order) = desk.lock().order.take() else { continue };
        let answer = carry_out(order, &mut guards);
        desk.lock().answer = Some(answer);
        if told.signal(DONE).is_err() {
            return;
        }
    }
}

fn carry_out(order: Order, guards: &mut Vec<Guard>) -> Result<Answer, Error> {
    match order {
        Order::Open(region, write) => {
            guards.push(if write {
                Guard::Write { _guard: region.open_write()? }
            } else {
                Guard::Read { _guard: region.open_read()? }
            });
            Ok(Answer::Done)
        }
        Order::Close(nth) if nth < guards.len() => {
            drop(guards.remove(nth));
            Ok(Answer::Done)
        }
        Order::Close(_) => Err(Error::InvalidArgument),
        Order::Read(address) => Unguarded::in_regions(address, 8)?.read_u64(0).map(Answer::Value),
        Order::Write(address, value) => {
            Unguarded::in_regions(address, 8)?.write_u64(0, value).map(|()| Answer::Value(value))
        }
    }
}

/// The typed capability behind a handle.
pub(crate) fn region(handle: u64) -> Region {
    Region::from_handle(libpks::cap::Handle::from_raw(handle))
}
