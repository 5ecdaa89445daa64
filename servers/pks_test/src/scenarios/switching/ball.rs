//! S4: threads on one CPU keep their own rights, through switches that are counted.
//!
//! First two threads pass a ball, so that every turn is a switch. The first thing that each does in its turn is an
//! access that it may not make, whose report tells the CPU's word ([`Denied`]); then it makes those that it may. A
//! second key is open in both, so that no word of them is a default. Then three threads run without entering the kernel,
//! so that the timer switches them; when it has, two of them do what they may not, again and again.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Notification, Region};

use super::denied::{Denied, Expected};
use crate::bench::{Page, Target, Tools};
use crate::subject::{PATIENCE, Subject, access, open};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Turns of each of the two threads.
const TURNS: u64 = 16;
/// How often each thread that the timer switches is looked at.
const LOOKS: u64 = 6;
/// Accesses that another thread must have made between two looks.
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
    denied: Denied,
    word: Pkrs,
    mine: Notification,
    theirs: Notification,
    /// Whether it begins.
    begins: bool,
}

impl Player {
    fn play(self, note: Notification) -> Result<Tally, Error> {
        let _marker = open(self.marker, Rights::ReadOnly)?;
        let _held = open(self.region, self.rights)?;
        let mut tally = Tally::default();
        while tally.turns < TURNS {
            if tally.turns > 0 || !self.begins {
                self.mine.wait(Some(Instant::after(PATIENCE)))?;
            }
            self.denied.attempt(note)?;
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

/// What a thread with these rights to the target may do neither there nor at the marker, which it may read.
fn denied(rights: Rights, target: &Target, marker: &Target, go: Notification) -> Denied {
    match rights {
        Rights::NoAccess => Denied { raw: target.raw, access: Access::Read, key: target.key, go },
        Rights::ReadOnly => Denied { raw: target.raw, access: Access::Write, key: target.key, go },
        Rights::ReadWrite => Denied { raw: marker.raw, access: Access::Write, key: marker.key, go },
    }
}

/// Two threads in turn; gives the switches that were counted.
fn ball(
    tools: &Tools,
    checks: &Checks,
    target: &Target,
    marker: &Target,
    cpu: u32,
    sides: [Rights; 2],
) -> Run<u64> {
    let base = tools.base_word()?.with(marker.key, Rights::ReadOnly);
    let notes = [Notification::create()?, Notification::create()?];
    let gos = [Notification::create()?, Notification::create()?];
    let before = tools.counters(cpu)?.switches;
    let mut subjects = heapless::Vec::<_, 2>::new();
    // The second waits already when the first begins.
    for side in [1, 0] {
        let rights = sides[side];
        let denied = denied(rights, target, marker, *gos[side]);
        let word = base.with(target.key, rights);
        let player = Player {
            tools: *tools,
            cpu,
            region: *target.region,
            raw: target.raw,
            rights,
            marker: *marker.region,
            denied,
            word,
            mine: *notes[side],
            theirs: *notes[1 - side],
            begins: side == 0,
        };
        let subject = Subject::start(tools, Some(cpu), move |note| player.play(note))?;
        let _ = subjects.push((subject, rights, denied, Expected { cpu, word }));
    }
    let [first, second] = sides;
    for turn in 0..2 * TURNS {
        let (subject, rights, denied, expected) = &subjects[usize::from(turn.is_multiple_of(2))];
        let what = format_args!("CPU {cpu}, {first} against {second}, turn {turn}, the thread with {rights}");
        denied.judge(tools, checks, subject, *expected, what)?;
    }
    for (subject, rights, ..) in subjects {
        let what = format_args!("CPU {cpu}, {first} against {second}, the thread with {rights}");
        let tally = subject.finish()?;
        checks.same(format_args!("{what}: a word that is not its own"), tally.wrong, None)?;
        checks.same(format_args!("{what}: turns"), tally.turns, TURNS)?;
    }
    let switches = tools.counters(cpu)?.switches.wrapping_sub(before);
    checks
        .that(switches >= 2 * TURNS, format_args!("CPU {cpu}: {switches} switches in {} turns", 2 * TURNS))?;
    Ok(switches)
}

/// Three threads that only the timer parts; gives the switches that were counted.
///
/// One may do everything, counts what it does, and enters the kernel never. The others look whether it has got on, which it
/// can only while they do not run; then they do what they may not.
fn preempted(tools: &Tools, checks: &Checks, target: &Target, cpu: u32) -> Run<u64> {
    let base = tools.base_word()?;
    // Each of the two has a page of its own under the key, so that what is opened for one is so for it alone.
    let other = Page::new(Some(target.capability()))?;
    let (stop, beat) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let gos = [Notification::create()?, Notification::create()?];
    let watched = [
        (Rights::ReadOnly, Denied { raw: target.raw, access: Access::Write, key: target.key, go: *gos[0] }),
        (Rights::NoAccess, Denied { raw: other.raw, access: Access::Read, key: target.key, go: *gos[1] }),
    ];
    let before = tools.counters(cpu)?.switches;
    let (ends, count, region, raw) = (Arc::clone(&stop), Arc::clone(&beat), *target.region, target.raw);
    let counter = Subject::start(tools, Some(cpu), move |_| {
        let _held = open(region, Rights::ReadWrite)?;
        while !ends.load(Ordering::Acquire) {
            access(&raw, 16, Access::Read, 0)?;
            access(&raw, 16, Access::Write, 1)?;
            count.fetch_add(1, Ordering::Release);
        }
        Ok(())
    })?;
    let mut subjects = heapless::Vec::<_, 2>::new();
    for (rights, denied) in watched {
        let beat = Arc::clone(&beat);
        let subject = Subject::start(tools, Some(cpu), move |note| {
            let _held = open(region, rights)?;
            for _ in 0..LOOKS {
                let mark = beat.load(Ordering::Acquire);
                while beat.load(Ordering::Acquire) < mark + PROGRESS {
                    allowed(rights).iter().try_for_each(|&how| access(&raw, 16, how, 1).map(drop))?;
                }
                denied.attempt(note)?;
            }
            Ok(())
        })?;
        let _ = subjects.push((subject, rights, denied));
    }
    for look in 0..LOOKS {
        for (subject, rights, denied) in &subjects {
            let expected = Expected { cpu, word: base.with(target.key, *rights) };
            let what =
                format_args!("CPU {cpu}, look {look}, the thread with {rights} that the timer switches");
            denied.judge(tools, checks, subject, expected, what)?;
        }
    }
    for (subject, ..) in subjects {
        subject.finish()?;
    }
    stop.store(true, Ordering::Release);
    counter.finish()?;
    let switches = tools.counters(cpu)?.switches.wrapping_sub(before);
    checks.that(switches >= 2 * LOOKS, format_args!("CPU {cpu}: {switches} switches in {LOOKS} looks"))?;
    Ok(switches)
}
