//! P6: A to B to A, and all other orders of three threads on one CPU, each switch proven by a count.
//!
//! The threads pass a baton along a script that has every ordered pair of them. The first thing that each does with
//! the baton is an access that it may not make, whose report tells the CPU's word ([`Denied`]). Then it notes the CPU's
//! count of switches, so that two notes in a row of different threads with different counts are a switch
//! between the two. The words of two threads differ from every default and from each other; the third opens nothing
//! from its beginning to its end.

use alloc::sync::Arc;
use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Notification, Owned, Region};

use super::denied::{Denied, Expected};
use crate::bench::{Target, Tools};
use crate::subject::{PATIENCE, Subject, access, open};
use libpks::proto::pks_test::checks::{Checks, Run};

const THREADS: usize = 3;
/// Whose turn it is: every ordered pair, A to B to A and B to A to B among them.
const SCRIPT: [usize; 16] = [0, 1, 0, 1, 2, 0, 2, 1, 2, 1, 0, 2, 0, 1, 0, 2];

/// What a thread may do with each of the two pages.
const RIGHTS: [[Rights; 2]; THREADS] = [
    [Rights::ReadOnly, Rights::ReadWrite],
    [Rights::ReadWrite, Rights::ReadOnly],
    [Rights::NoAccess, Rights::NoAccess],
];
/// What each must not do, and does first in each turn: page and access.
const FORBIDDEN: [(usize, Access); THREADS] = [(0, Access::Write), (1, Access::Write), (0, Access::Read)];

/// What a thread saw when it had the baton.
#[derive(Clone, Copy, Debug)]
struct Note {
    turn: usize,
    word: Pkrs,
    switches: u64,
}

struct Runner {
    tools: Tools,
    cpu: u32,
    me: usize,
    pages: [(Region, Unguarded); 2],
    denied: Denied,
    batons: [Notification; THREADS],
    notes: Arc<libpks::rt::sync::Mutex<Vec<Note>>>,
    last: Notification,
}

impl Runner {
    fn run(self, note: Notification) -> Result<(), Error> {
        let rights = RIGHTS[self.me];
        let mut held = heapless::Vec::<_, 2>::new();
        for ((region, _), rights) in
            self.pages.iter().zip(rights).filter(|(_, rights)| *rights > Rights::NoAccess)
        {
            let _ = held.push(open(*region, rights)?);
        }
        for (turn, _) in SCRIPT.iter().enumerate().filter(|(_, who)| **who == self.me) {
            self.batons[self.me].wait(Some(Instant::after(PATIENCE)))?;
            self.denied.attempt(note)?;
            let word = self.tools.words(self.cpu)?.interrupted;
            let switches = self.tools.counters(self.cpu)?.switches;
            for ((_, raw), rights) in self.pages.iter().zip(rights) {
                if rights >= Rights::ReadOnly {
                    access(raw, 8, Access::Read, 0)?;
                }
                if rights == Rights::ReadWrite {
                    access(raw, 8, Access::Write, turn as u64)?;
                }
            }
            self.notes.lock().push(Note { turn, word, switches });
            match SCRIPT.get(turn + 1) {
                Some(&next) => self.batons[next].signal(1)?,
                None => self.last.signal(1)?,
            }
        }
        Ok(())
    }
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let targets = [Target::new(tools)?, Target::new(tools)?];
    let base = tools.base_word()?;
    let [first, second] = &targets;
    let words = RIGHTS.map(|[one, two]| base.with(first.key, one).with(second.key, two));
    let defaults = [Pkrs::DEFAULT, Pkrs::KERNEL, Pkrs::CLOSED, Pkrs::from_raw(0), base];
    for (armed, other) in [(words[0], words[1]), (words[1], words[0])] {
        let differs = armed != other && defaults.iter().all(|default| *default != armed);
        checks.that(differs, format_args!("{:#010x} is a default", armed.raw()))?;
    }
    checks.same(format_args!("the word of who never opened anything"), words[2], base)?;
    let last = tools.cpus()?.saturating_sub(1);
    let mut switches = 0;
    for cpu in [0, last] {
        switches += on_cpu(tools, checks, &targets, words, cpu)?;
    }
    let [a, b, c] = words.map(Pkrs::raw);
    Ok(cut(format_args!(
        "{switches} switches on CPUs 0 and {last} between {a:#010x}, {b:#010x} and {c:#010x}"
    )))
}

fn on_cpu(
    tools: &Tools,
    checks: &Checks,
    targets: &[Target; 2],
    words: [Pkrs; THREADS],
    cpu: u32,
) -> Run<u64> {
    let batons: [Owned<Notification>; THREADS] =
        [Notification::create()?, Notification::create()?, Notification::create()?];
    let gos = [Notification::create()?, Notification::create()?, Notification::create()?];
    let end = Notification::create()?;
    let notes = Arc::new(libpks::rt::sync::Mutex::new(Vec::new()));
    let mut subjects = heapless::Vec::<_, THREADS>::new();
    for me in 0..THREADS {
        let (page, forbidden) = FORBIDDEN[me];
        let denied =
            Denied { raw: targets[page].raw, access: forbidden, key: targets[page].key, go: *gos[me] };
        let runner = Runner {
            tools: *tools,
            cpu,
            me,
            pages: [(*targets[0].region, targets[0].raw), (*targets[1].region, targets[1].raw)],
            denied,
            batons: [*batons[0], *batons[1], *batons[2]],
            notes: Arc::clone(&notes),
            last: *end,
        };
        let subject = Subject::start(tools, Some(cpu), move |note| runner.run(note))?;
        let _ = subjects.push((subject, denied));
    }
    batons[SCRIPT[0]].signal(1)?;
    for (turn, who) in SCRIPT.into_iter().enumerate() {
        let (subject, denied) = &subjects[who];
        let expected = Expected { cpu, word: words[who] };
        denied.judge(tools, checks, subject, expected, format_args!("thread {who} in turn {turn}"))?;
    }
    end.wait(Some(Instant::after(PATIENCE)))?;
    let notes = core::mem::take(&mut *notes.lock());
    let switches = check_notes(checks, &notes, words)?;
    for (subject, _) in subjects {
        subject.finish()?;
    }
    Ok(switches)
}

/// The turns came in the order of the script, each with its thread's word, and between two turns the CPU switched.
fn check_notes(checks: &Checks, notes: &[Note], words: [Pkrs; THREADS]) -> Run<u64> {
    let turns: Vec<usize> = notes.iter().map(|note| note.turn).collect();
    checks.same(format_args!("turns"), turns, (0..SCRIPT.len()).collect())?;
    for (note, who) in notes.iter().zip(SCRIPT) {
        checks.same(format_args!("word of thread {who} in turn {}", note.turn), note.word, words[who])?;
    }
    for pair in notes.windows(2) {
        check_switched(checks, pair[0].switches, pair[1].switches)?;
    }
    let counts = notes.first().zip(notes.last());
    Ok(counts.map_or(0, |(first, last)| last.switches.wrapping_sub(first.switches)))
}

/// The CPU has switched between two looks at its count.
pub(in crate::scenarios) fn check_switched(checks: &Checks, before: u64, after: u64) -> Run {
    checks.that(after > before, format_args!("no switch: the count was {before} and is {after}"))
}
