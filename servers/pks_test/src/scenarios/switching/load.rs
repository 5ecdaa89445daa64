//! M2: threads on all CPUs open, close, wait, yield and move, while rights of all threads change; each compares what it
//! is given with what it holds.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use libpks::abi::Error;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::sync::Mutex;
use libpks::rt::text::cut;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Notification, Region, Thread, time};

use super::ball::allowed;
use crate::bench::{Target, Tools};
use crate::subject::{FAULT, STEP, Subject, access, check_key_fault, open};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Threads for each CPU.
const THREADS: u32 = 2;
/// Rounds of each thread.
const ROUNDS: u64 = 40;
/// A thread goes to the next CPU after so many.
const ROUNDS_ON_A_CPU: u64 = 8;
/// Changes for all threads at most, for each round.
const CHANGES_A_ROUND: u64 = 16;
const NAP: Duration = Duration::from_micros(200);
const ALL: [Rights; 3] = [Rights::NoAccess, Rights::ReadOnly, Rights::ReadWrite];
/// What all threads may do with the shared region after so many changes, and again from the first.
const SHARED: [(Rights, Opening); 3] = [
    (Rights::NoAccess, Opening::None),
    (Rights::ReadWrite, Opening::ReadWrite),
    (Rights::ReadOnly, Opening::ReadOnly),
];

/// What went on, as all threads together saw it.
struct Tally {
    rounds: AtomicU64,
    /// Twice the changes for all threads, and one more while one is under way.
    changes: AtomicU64,
    /// Words that were compared while no such change was under way.
    settled: AtomicU64,
    /// The first word that was not what its thread held: CPU, seen, expected.
    wrong: Mutex<Option<(u32, Pkrs, Pkrs)>>,
    /// The threads may do what they must not.
    ends: AtomicBool,
}

/// One thread.
struct Worker {
    tools: Tools,
    tally: Arc<Tally>,
    seed: u64,
    cpu: u32,
    cpus: u32,
    base: Pkrs,
    own: [(Region, Unguarded, Pkey); 2],
    /// The key whose rights others change.
    shared: Pkey,
}

impl Worker {
    /// The next of a sequence that depends on the seed alone (Knuth's MMIX generator).
    fn choose(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn rights(&mut self) -> Rights {
        usize::try_from(self.choose(3)).ok().and_then(|at| ALL.get(at)).copied().unwrap_or(Rights::NoAccess)
    }

    fn work(mut self, signals: Notification) -> Result<u64, Error> {
        let thread = Thread::current()?;
        for round in 1..=ROUNDS {
            self.round(round)?;
            if round.is_multiple_of(ROUNDS_ON_A_CPU) {
                self.cpu = (self.cpu + 1) % self.cpus;
                thread.bind(Some(self.cpu))?;
            }
            self.tally.rounds.fetch_add(1, Ordering::Relaxed);
        }
        // Who is killed at a fault drops nothing any more.
        drop(thread);
        let (region, raw, _) = self.own[0];
        let _held = open(region, Rights::ReadOnly)?;
        signals.signal(STEP)?;
        while !self.tally.ends.load(Ordering::Acquire) {
            time::sleep(NAP)?;
        }
        access(&raw, 8, Access::Write, u64::MAX)
    }

    fn round(&mut self, round: u64) -> Result<(), Error> {
        let rights = [self.rights(), self.rights()];
        let _held = (open(self.own[0].0, rights[0])?, open(self.own[1].0, rights[1])?);
        match self.choose(4) {
            0 => time::yield_now(),
            1 => time::sleep(NAP)?,
            2 => (0..2000).for_each(|_| core::hint::spin_loop()),
            _ => {}
        }
        let before = self.tally.changes.load(Ordering::Acquire);
        let words = self.tools.words(self.cpu)?;
        let after = self.tally.changes.load(Ordering::Acquire);
        let held = self.base.with(self.own[0].2, rights[0]).with(self.own[1].2, rights[1]);
        let settled = before == after && before.is_multiple_of(2);
        // When the kernel has told of a change, no CPU runs a thread without it. While it does not, either is right.
        let expected = match settled {
            true => held.with(self.shared, shared_after(before / 2).0),
            false => held.with(self.shared, words.interrupted.rights(self.shared)),
        };
        self.tally.settled.fetch_add(u64::from(settled), Ordering::Relaxed);
        if words.interrupted != expected || words.kernel != u64::from(Pkrs::KERNEL.raw()) {
            self.tally.wrong.lock().get_or_insert((self.cpu, words.interrupted, expected));
        }
        for ((_, raw, _), rights) in self.own.iter().zip(rights) {
            // What is not allowed would be a fault, which ends the scenario.
            allowed(rights).iter().try_for_each(|&how| access(raw, 8, how, round).map(drop))?;
        }
        Ok(())
    }
}

/// What all threads may do with the shared region after so many changes.
fn shared_after(changes: u64) -> (Rights, Opening) {
    SHARED[(changes % 3) as usize]
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let targets = [Target::new(tools)?, Target::new(tools)?];
    let shared = Target::new(tools)?;
    let (base, cpus) = (tools.base_word()?, tools.cpus()?);
    let tally = Arc::new(Tally {
        rounds: AtomicU64::new(0),
        changes: AtomicU64::new(0),
        settled: AtomicU64::new(0),
        wrong: Mutex::new(None),
        ends: AtomicBool::new(false),
    });
    let own = [0, 1].map(|at: usize| (*targets[at].region, targets[at].raw, targets[at].key));
    let mut subjects = Vec::new();
    for number in 0..THREADS * cpus {
        let cpu = number % cpus;
        let (tally, seed) = (Arc::clone(&tally), u64::from(number));
        let worker = Worker { tools: *tools, tally, seed, cpu, cpus, base, own, shared: shared.key };
        subjects.push(Subject::start(tools, Some(cpu), move |signals| worker.work(signals))?);
    }
    let all = u64::from(THREADS * cpus) * ROUNDS;
    let mut changes = 0_u64;
    // Rights of all threads change under them until all have come to their end, and are none then; a thread that stops is
    // found below.
    while !changes.is_multiple_of(3)
        || (tally.rounds.load(Ordering::Relaxed) < all && changes < CHANGES_A_ROUND * all)
    {
        changes += 1;
        tally.changes.fetch_add(1, Ordering::AcqRel);
        shared.region.open_global(shared_after(changes).1)?;
        tally.changes.fetch_add(1, Ordering::AcqRel);
        time::sleep(NAP)?;
    }
    for subject in &subjects {
        subject.until(STEP)?;
    }
    tally.ends.store(true, Ordering::Release);
    checks.same(format_args!("words that were not what a thread held"), *tally.wrong.lock(), None)?;
    let word = base.with(targets[0].key, Rights::ReadOnly);
    for subject in subjects {
        subject.until(FAULT)?;
        let report = subject.report()?;
        check_key_fault(checks, &report, targets[0].address() + 8, Access::Write, targets[0].key, word)?;
    }
    let rounds = tally.rounds.load(Ordering::Relaxed);
    checks.same(format_args!("rounds"), rounds, all)?;
    let settled = tally.settled.load(Ordering::Relaxed);
    checks.that(
        changes >= 3 && settled * 10 >= rounds,
        format_args!("{changes} changes, {settled} words between them"),
    )?;
    Ok(cut(format_args!(
        "{rounds} rounds on {cpus} CPUs, {changes} changes for all, {settled} looks between"
    )))
}
