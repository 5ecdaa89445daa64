//! S4: threads on one CPU keep their own rights, through switches that are counted.
//!
//! First two threads pass a ball, so that every turn is a switch; each looks at its word and accesses the same page
//! in its own way. A second key is open in both, so that no word of them is a default. Then three threads run without entering the kernel, so that the timer switches them. In the end
//! each does what it may not, and must fault.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Notification, Owned, Region};

use crate::bench::{Target, Tools};
use crate::subject::{DONE, FAULT, PATIENCE, Subject, access, check_key_fault, open, wait_for};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Turns of each of the two threads.
const TURNS: u64 = 16;
/// Switches by the timer that are waited for.
const PREEMPTIONS: u64 = 8;
/// Accesses that each thread must have made between two looks.
const PROGRESS: u64 = 100;

/// What a thread has seen in its turns.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    turns: u64,
    /// The first word that was not its own.
    wrong: Option<Pkrs>,
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (target, marker) = (Target::new(tools)?, Target::new(tools)?);
    let last = tools.cpus()?.saturating_sub(1);
    let pairs = [
        (Rights::ReadWrite, Rights::NoAccess),
        (Rights::NoAccess, Rights::ReadWrite),
        (Rights::ReadWrite, Rights::ReadOnly),
        (Rights::ReadOnly, Rights::ReadWrite),
    ];
    let mut switches = 0;
    for cpu in [0, last] {
        for (first, second) in pairs {
            switches += ball(tools, checks, &target, &marker, cpu, [first, second])?;
        }
        switches += preempted(tools, checks, &target, cpu)?;
    }
    Ok(cut(format_args!("{switches} switches on CPU 0 and CPU {last}, each thread with its own word")))
}

/// One side of the ball game.
struct Player {
    tools: Tools,
    cpu: u32,
    region: Region,
    raw: Unguarded,
    rights: Rights,
    marker: Region,
    word: Pkrs,
    mine: Notification,
    theirs: Notification,
    /// Whether it begins.
    begins: bool,
}

impl Player {
    fn play(self) -> Result<Tally, Error> {
        let _marker = open(self.marker, Rights::ReadOnly)?;
        let _held = open(self.region, self.rights)?;
        let mut tally = Tally::default();
        while tally.turns < TURNS {
            if tally.turns > 0 || !self.begins {
                self.mine.wait(Some(Instant::after(PATIENCE)))?;
            }
            let seen = self.tools.words(self.cpu)?.interrupted;
            if seen != self.word && tally.wrong.is_none() {
                tally.wrong = Some(seen);
            }
            for allowed in allowed(self.rights) {
                access(&self.raw, 8, *allowed, tally.turns)?;
            }
            tally.turns += 1;
            self.theirs.signal(1)?;
        }
        // The last turn: what it may not, if there is anything.
        if let Some(forbidden) = forbidden(self.rights) {
            access(&self.raw, 8, forbidden, u64::MAX)?;
        }
        Ok(tally)
    }
}

pub(super) const fn allowed(rights: Rights) -> &'static [Access] {
    match rights {
        Rights::NoAccess => &[],
        Rights::ReadOnly => &[Access::Read],
        Rights::ReadWrite => &[Access::Read, Access::Write],
    }
}

const fn forbidden(rights: Rights) -> Option<Access> {
    match rights {
        Rights::NoAccess => Some(Access::Read),
        Rights::ReadOnly => Some(Access::Write),
        Rights::ReadWrite => None,
    }
}

/// Two threads in turn; gives the switches that were counted.
fn ball(
    tools: &Tools,
    checks: &Checks,
    target: &Target,
    marker: &Target,
    cpu: u32,
    [first, second]: [Rights; 2],
) -> Run<u64> {
    let base = tools.base_word()?.with(marker.key, Rights::ReadOnly);
    let notes: [Owned<Notification>; 2] = [Notification::create()?, Notification::create()?];
    let player = |rights, mine: usize, begins| Player {
        tools: *tools,
        cpu,
        region: *target.region,
        raw: target.raw,
        rights,
        marker: *marker.region,
        word: base.with(target.key, rights),
        mine: *notes[mine],
        theirs: *notes[1 - mine],
        begins,
    };
    let before = tools.counters(cpu)?.switches;
    // The second waits already when the first begins.
    let players = [player(second, 1, false), player(first, 0, true)];
    let mut subjects = heapless::Vec::<_, 2>::new();
    for player in players {
        let rights = player.rights;
        let subject = Subject::start(tools, Some(cpu), move |_| player.play())?;
        let _ = subjects.push((subject, rights));
    }
    for (subject, rights) in subjects {
        let what = format_args!("CPU {cpu}, {first} against {second}, the thread with {rights}");
        match forbidden(rights) {
            None => {
                let tally = subject.finish()?;
                checks.same(format_args!("{what}: a word that is not its own"), tally.wrong, None)?;
                checks.same(format_args!("{what}: turns"), tally.turns, TURNS)?;
            }
            Some(access) => {
                let event = subject.until(FAULT | DONE)?;
                checks
                    .that(event == FAULT, format_args!("{what}: {access} after its turns did not fault"))?;
                let report = subject.report()?;
                let word = base.with(target.key, rights);
                check_key_fault(checks, &report, target.address() + 8, access, target.key, word)?;
            }
        }
    }
    let switches = tools.counters(cpu)?.switches.wrapping_sub(before);
    checks
        .that(switches >= 2 * TURNS, format_args!("CPU {cpu}: {switches} switches in {} turns", 2 * TURNS))?;
    Ok(switches)
}

/// Three threads that only the timer parts; gives the switches that were counted.
fn preempted(tools: &Tools, checks: &Checks, target: &Target, cpu: u32) -> Run<u64> {
    let base = tools.base_word()?;
    let stop = Arc::new(AtomicBool::new(false));
    let all = [Rights::ReadWrite, Rights::ReadOnly, Rights::NoAccess];
    let before = tools.counters(cpu)?.switches;
    let mut subjects = heapless::Vec::<_, 3>::new();
    for rights in all {
        let (made, ends) = (Arc::new(AtomicU64::new(0)), Arc::clone(&stop));
        let (count, region, raw) = (Arc::clone(&made), *target.region, target.raw);
        let subject = Subject::start(tools, Some(cpu), move |_| {
            let _held = open(region, rights)?;
            while !ends.load(Ordering::Acquire) {
                for allowed in allowed(rights) {
                    access(&raw, 16, *allowed, 1)?;
                }
                count.fetch_add(1, Ordering::Release);
            }
            match forbidden(rights) {
                Some(forbidden) => access(&raw, 16, forbidden, u64::MAX),
                None => Ok(0),
            }
        })?;
        let _ = subjects.push((subject, rights, made));
    }
    // All three must get on after all three have got on: so each was switched out and in again.
    for _ in 0..2 {
        let marks: heapless::Vec<u64, 3> =
            subjects.iter().map(|(_, _, made)| made.load(Ordering::Acquire)).collect();
        wait_for(checks, format_args!("CPU {cpu}: three threads that get on"), || {
            let got_on = |((_, _, made), mark): (&(Subject<u64>, Rights, Arc<AtomicU64>), &u64)| {
                made.load(Ordering::Acquire) >= mark + PROGRESS
            };
            Ok(subjects.iter().zip(&marks).all(got_on))
        })?;
    }
    wait_for(checks, format_args!("CPU {cpu}: {PREEMPTIONS} switches"), || {
        Ok(tools.counters(cpu)?.switches.wrapping_sub(before) >= PREEMPTIONS)
    })?;
    stop.store(true, Ordering::Release);
    for (subject, rights, _) in subjects {
        match forbidden(rights) {
            None => checks.same(format_args!("the writer's end"), subject.finish()?, 0)?,
            Some(access) => {
                let event = subject.until(FAULT | DONE)?;
                checks.that(
                    event == FAULT,
                    format_args!("{access} with {rights} after preemptions did not fault"),
                )?;
                let word = base.with(target.key, rights);
                check_key_fault(
                    checks,
                    &*subject.report()?,
                    target.address() + 16,
                    access,
                    target.key,
                    word,
                )?;
            }
        }
    }
    Ok(tools.counters(cpu)?.switches.wrapping_sub(before))
}
