//! Threads that run all along, one on each CPU, less urgent than the steps: they are preempted at any place, and look
//! whether they ever have other rights than they should.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::abi::Error;
use libpks::abi::selftest::SelfTestOp;
use libpks::rt::sync::Mutex;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::{Instant, Key, Notification, Owned, Region, SelfTest, Thread};

use crate::crew::{KERNEL_WORD, Tools};
use crate::errand::Seen;

const STACK: u64 = 16 * 1024;
/// Turns between two looks at the rights word.
const TURNS: u64 = 64;
/// Looks until the cell must agree with the books. Changes of the books are rarer than looks by far.
const TRIES: u32 = 32;

/// What a spinner has seen that must not be.
type Trouble = libpks::proto::stress::Words;

struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// All spinners of a run. Dropping it ends them.
pub(crate) struct Spinners {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    faults: Owned<Notification>,
    _region: Owned<Region>,
    _key: Owned<Key>,
}

impl Spinners {
    /// Starts one on each CPU. They have a region under a key of their own.
    pub(crate) fn start(tools: &Tools) -> Result<Self, Error> {
        let (key, number) = tools.keys.allocate()?;
        let region = Region::create(4096, Some(*key))?;
        let shared =
            Shared { stop: AtomicBool::new(false), rounds: AtomicU64::new(0), trouble: Mutex::new(None) };
        let mut spinners = Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
            faults: Notification::create()?,
            _region: region,
            _key: key,
        };
        let priority = tools.nursery.priority.saturating_sub(1);
        for cpu in 0..tools.inspect.system()?.cpus {
            let (shared, region) = (Arc::clone(&spinners.shared), *spinners._region);
            let (self_test, faults) = (tools.self_test, *spinners.faults);
            let handle = spawn(STACK, priority, move || {
                let spun = spin(&shared, region, self_test, faults, cpu, number);
                if let Err(error) = spun {
                    shared.report(format_args!("the spinner of CPU {cpu}: {error}"));
                }
            })?;
            spinners.threads.push(handle);
        }
        Ok(spinners)
    }

    /// Rounds that were made since the last call.
    pub(crate) fn rounds(&self) -> u64 {
        self.shared.rounds.swap(0, Ordering::Relaxed)
    }

    /// What one of them has seen that must not be.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        if self.faults.poll().is_ok() {
            for (cpu, thread) in self.threads.iter().enumerate() {
                if let Ok(report) = thread.thread().fault() {
                    let seen = Seen::of(&report);
                    self.shared.report(format_args!("the spinner of CPU {cpu} stands at a fault: {seen:x?}"));
                }
            }
        }
        self.shared.trouble.lock().clone()
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in &self.threads {
            // One that stands at a fault never sees the flag.
            let ended = thread.thread().join(Some(Instant::after(core::time::Duration::from_secs(10))));
            if ended.is_err() {
                let _ = thread.thread().kill();
            }
        }
    }
}

impl Shared {
    fn report(&self, words: core::fmt::Arguments<'_>) {
        self.trouble.lock().get_or_insert_with(|| libpks::rt::text::cut(words));
    }
}

fn spin(
    shared: &Shared,
    region: Region,
    self_test: SelfTest,
    faults: Notification,
    cpu: u32,
    key: u8,
) -> Result<(), Error> {
    let own = Thread::current()?;
    own.on_fault(faults, 1)?;
    own.bind(Some(cpu))?;
    let offset = u64::from(cpu) * 8;
    let mut value = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let rights = {
            let guard = region.open_write()?;
            for _ in 0..TURNS {
                let found = guard.read_u64(offset)?;
                if found != value {
                    shared.report(format_args!("the spinner of CPU {cpu} wrote {value} and read {found}"));
                }
                value += 1;
                guard.write_u64(offset, value)?;
            }
            key_bits(shared, self_test, cpu, key)?
        };
        let after = key_bits(shared, self_test, cpu, key)?;
        let _reader = region.open_read()?;
        let reading = key_bits(shared, self_test, cpu, key)?;
        if (rights, after, reading) != (0, 1, 2) {
            shared.report(format_args!(
                "the spinner of CPU {cpu} had {rights} when open, {after} when closed, {reading} for reading"
            ));
        }
        shared.rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The two bits of a key in this thread's word, after the word was found to be the same everywhere.
///
/// The cell has the word of the last way out of the kernel. While this thread waits for the kernel's lock another CPU may
/// change the books, and nothing is wrong with that: the way out follows them. So they must agree soon.
fn key_bits(shared: &Shared, self_test: SelfTest, cpu: u32, key: u8) -> Result<u64, Error> {
    let mut last = (0, 0);
    for _ in 0..TRIES {
        let [cell, kernel, _, books, ..] =
            self_test.run(SelfTestOp::ReadPkrs, [u64::from(cpu), 0, 0, 0, 0])?;
        if kernel != KERNEL_WORD {
            shared.report(format_args!("CPU {cpu} has {kernel:#x} in the kernel"));
        }
        if cell == books {
            return Ok(cell >> (2 * key) & 3);
        }
        last = (cell, books);
    }
    let (cell, books) = last;
    shared.report(format_args!("CPU {cpu}: cell {cell:#x}, books {books:#x}, {TRIES} times"));
    Ok(cell >> (2 * key) & 3)
}
