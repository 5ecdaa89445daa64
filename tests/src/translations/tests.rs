//! Made-up logs: a small machine that follows the rules or leaves one thing out.

use libpks::translations::{Event, HEADER_BYTES, Header, LogError, Record};
use proptest::prelude::*;

use super::{Broken, Verdict, check, read};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const DIRECT: u64 = 0xffff_8000_0000_0000;
/// What the tests map: everything under the last table.
const BASE: u64 = 0xffff_c000_0000_0000;
/// The window, by its last table: another one on each CPU.
const WINDOW: u64 = 0xffff_ffff_c000_0000;

/// A step that a kernel may forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    Nothing,
    OwnInvalidation,
    OthersInvalidation,
    Waiting,
    KeyBeforeFlush,
    FrameBeforeUnmap,
    VaultInvalidation,
}

/// Writes the log of a machine with 3 CPUs, of which CPU 0 does all the work.
struct Machine {
    records: Vec<Record>,
    words: std::collections::HashMap<u64, u64>,
    forgotten: Forgotten,
    next_frame: u64,
}

const CPUS: u8 = 3;
/// Tables of level 4 to 1 for `BASE`, shared by the roots.
const SHARED: [u64; 3] = [0x11_0000, 0x12_0000, 0x13_0000];

fn root(cpu: u8) -> u64 {
    0x20_0000 + u64::from(cpu) * 0x1_0000
}

fn leaf(frame: u64, key: u8) -> u64 {
    frame | PRESENT | WRITABLE | NO_EXECUTE | u64::from(key) << 59
}

impl Machine {
    /// All CPUs are up and run domains.
    fn new(forgotten: Forgotten) -> Self {
        let mut machine = Self { records: Vec::new(), words: [].into(), forgotten, next_frame: 0x100_0000 };
        machine.log(Event::Started { levels: 4, direct_map: DIRECT, bytes: 1 << 46 });
        let table = |at: u64| at | PRESENT | WRITABLE;
        machine.set(SHARED[0], table(SHARED[1]));
        machine.set(SHARED[1], table(SHARED[2]));
        for cpu in 0..CPUS {
            machine.set(root(cpu) + 384 * 8, table(SHARED[0]));
            let own = |n: u64| root(cpu) + n * 0x1000;
            for (at, n) in [(own(0) + 511 * 8, 1), (own(1) + 511 * 8, 2), (own(2), 3)] {
                machine.set(at, table(own(n)));
            }
            machine.set(own(3) + 5 * 8, leaf(0x50_0000, 1));
            machine.log(Event::ViewMade { view: 0, root: root(cpu) });
            machine.log(Event::RootLoaded { cpu, root: root(cpu) });
        }
        (2..4).for_each(|key| machine.log(Event::KeyTaken { view: 0, key }));
        (0..CPUS).for_each(|cpu| machine.leave(cpu));
        machine
    }

    fn log(&mut self, event: Event) {
        self.records.push(Record { number: self.records.len() as u64, event });
    }

    fn set(&mut self, entry: u64, new: u64) {
        let old = self.words.insert(entry, new).unwrap_or(0);
        self.log(Event::EntryWritten { entry, old, new });
    }

    fn enter(&mut self, cpu: u8) {
        self.log(Event::Entered { cpu });
    }

    fn leave(&mut self, cpu: u8) {
        self.log(Event::Left { cpu, opened: 0b101, last: 0b101 });
    }

    fn entry(page: u64) -> u64 {
        SHARED[2] + page * 8
    }

    /// Everybody forgets pages, as the kernel has it done.
    fn invalidate(&mut self, pages: std::ops::Range<u64>) {
        let (address, count) = (BASE + pages.start * 4096, pages.end - pages.start);
        let forget = |machine: &mut Self, cpu| {
            pages
                .clone()
                .for_each(|page| machine.log(Event::PageInvalidated { cpu, address: BASE + page * 4096 }));
        };
        if self.forgotten != Forgotten::OwnInvalidation {
            forget(self, 0);
        }
        if self.forgotten != Forgotten::Waiting {
            (1..CPUS).for_each(|cpu| self.enter(cpu));
            self.log(Event::Synced { cpu: 0 });
            self.log(Event::Invalidated { cpu: 0, address, pages: count });
        }
        if !matches!(self.forgotten, Forgotten::OthersInvalidation | Forgotten::Waiting) {
            (1..CPUS).for_each(|cpu| forget(self, cpu));
        }
    }

    /// The other CPUs go on, if they were asked in.
    fn go_on(&mut self) {
        if self.forgotten != Forgotten::Waiting {
            (1..CPUS).for_each(|cpu| self.leave(cpu));
        }
        self.leave(0);
    }

    fn map(&mut self, page: u64, key: u8) {
        self.enter(0);
        let frame = self.next_frame;
        self.next_frame += 4096;
        self.log(Event::FrameTaken { frame });
        self.set(Self::entry(page), leaf(frame, key));
        self.leave(0);
    }

    fn change(&mut self, page: u64, change_fn: impl Fn(u64) -> u64) {
        self.enter(0);
        let entry = self.words[&Self::entry(page)];
        self.set(Self::entry(page), change_fn(entry));
        self.invalidate(page..page + 1);
        self.go_on();
    }

    fn unmap(&mut self, page: u64) {
        self.enter(0);
        let frame = self.words[&Self::entry(page)] & 0x000f_ffff_ffff_f000;
        if self.forgotten == Forgotten::FrameBeforeUnmap {
            self.log(Event::FrameFreed { frame });
        }
        self.set(Self::entry(page), 0);
        self.invalidate(page..page + 1);
        if self.forgotten != Forgotten::FrameBeforeUnmap {
            self.log(Event::FrameFreed { frame });
        }
        self.go_on();
    }

    /// All pages of key 3 get key 2, and key 3 goes.
    fn free_key(&mut self) {
        self.enter(0);
        let tagged: Vec<u64> = (0..512)
            .filter(|page| self.words.get(&Self::entry(*page)).is_some_and(|entry| entry >> 59 & 15 == 3))
            .collect();
        for &page in &tagged {
            let entry = self.words[&Self::entry(page)];
            self.set(Self::entry(page), entry ^ 1 << 59);
        }
        if self.forgotten == Forgotten::KeyBeforeFlush {
            self.log(Event::KeyFreed { view: 0, key: 3 });
        }
        self.invalidate(0..512);
        if self.forgotten != Forgotten::KeyBeforeFlush {
            self.log(Event::KeyFreed { view: 0, key: 3 });
        }
        self.log(Event::KeyTaken { view: 0, key: 3 });
        self.go_on();
    }

    /// CPU 0 opens its vault and closes it.
    fn use_vault(&mut self) {
        self.enter(0);
        let (entry, address) = (root(0) + 0x3000 + 5 * 8, WINDOW + 5 * 4096);
        let closed = self.words[&entry];
        self.set(entry, closed & !NO_EXECUTE & !WRITABLE);
        self.log(Event::PageInvalidated { cpu: 0, address });
        self.set(entry, closed);
        if self.forgotten != Forgotten::VaultInvalidation {
            self.log(Event::PageInvalidated { cpu: 0, address });
        }
        self.leave(0);
    }

    fn broken(&self) -> Option<Broken> {
        match check(&self.records) {
            Ok(_) => None,
            Err(Verdict::Violation { broken, .. }) => Some(broken),
            Err(Verdict::Log(error)) => panic!("{error}"),
        }
    }
}

/// Maps, changes and unmaps a page, frees a key, uses the vault.
fn work(forgotten: Forgotten) -> Machine {
    let mut machine = Machine::new(forgotten);
    machine.use_vault();
    machine.map(7, 2);
    machine.map(8, 3);
    machine.free_key();
    machine.change(7, |entry| entry & !WRITABLE);
    machine.unmap(7);
    machine
}

#[test]
fn a_kernel_that_forgets_nothing_passes() {
    let machine = work(Forgotten::Nothing);
    let counts = check(&machine.records).map(|model| model.counts());
    let counts = counts.unwrap_or_else(|verdict| panic!("{verdict}"));
    assert_eq!((counts.frames_freed, counts.keys_freed, counts.operations), (1, 1, 3));
    // Page 8's key, page 7's right, page 7 itself, each on 3 CPUs; the vault twice on one.
    assert_eq!((counts.stale, counts.useful_invalidations), (11, 11));
    assert!(counts.exits >= 12 && counts.records == machine.records.len() as u64);
}

#[test]
fn what_is_forgotten_is_found() {
    let found = |forgotten| work(forgotten).broken();
    assert!(matches!(found(Forgotten::OwnInvalidation), Some(Broken::NotInvalidated { cpu: 0, .. })));
    assert!(matches!(found(Forgotten::OthersInvalidation), Some(Broken::LeftWithStale { cpu: 1, .. })));
    // CPU 1 still runs a domain, and page 8 carried the key.
    let address = BASE + 8 * 4096;
    assert!(
        matches!(found(Forgotten::Waiting), Some(Broken::KeyStale { key: 3, cpu: 1, address: at, .. }) if at == address)
    );
    assert!(matches!(found(Forgotten::KeyBeforeFlush), Some(Broken::KeyStale { key: 3, cpu: 1, .. })));
    assert!(matches!(found(Forgotten::FrameBeforeUnmap), Some(Broken::FrameMapped { times: 1, .. })));
    let address = WINDOW + 5 * 4096;
    let stale = found(Forgotten::VaultInvalidation);
    assert!(
        matches!(stale, Some(Broken::LeftWithStale { cpu: 0, address: at, was, .. }) if at == address && was.executable)
    );
}

/// A machine on which CPU 0 is in the kernel and page 7 is mapped.
fn inside() -> Machine {
    let mut machine = Machine::new(Forgotten::Nothing);
    machine.map(7, 2);
    machine.enter(0);
    machine
}

#[test]
fn a_frame_is_not_freed_while_another_cpu_may_reach_it() {
    let mut machine = inside();
    let frame = machine.words[&Machine::entry(7)] & 0x000f_ffff_ffff_f000;
    machine.set(Machine::entry(7), 0);
    machine.log(Event::PageInvalidated { cpu: 0, address: BASE + 7 * 4096 });
    machine.log(Event::FrameFreed { frame });
    let since = machine.records.len() as u64 - 3;
    assert_eq!(machine.broken(), Some(Broken::FrameStale { frame, cpu: 1, address: BASE + 7 * 4096, since }));
}

#[test]
fn a_key_is_not_freed_while_pages_carry_it_or_a_word_opens_it() {
    let mut machine = inside();
    machine.log(Event::KeyFreed { view: 0, key: 2 });
    assert_eq!(machine.broken(), Some(Broken::KeyOnPages { key: 2, pages: 1 }));
    let mut machine = Machine::new(Forgotten::Nothing);
    machine.log(Event::KeyFreed { view: 0, key: 2 });
    assert_eq!(machine.broken(), Some(Broken::KeyOpen { key: 2, cpu: 0 }), "0b101 opens keys 0 and 2");
    let mut machine = Machine::new(Forgotten::Nothing);
    (0..CPUS).for_each(|cpu| machine.enter(cpu));
    machine.log(Event::KeyFreed { view: 0, key: 2 });
    machine.leave(2);
    assert_eq!(machine.broken(), Some(Broken::LeftWithFreeKey { cpu: 2, key: 2 }));
}

/// CPU 2 in a view of its own, which shows the same table.
fn in_two_views() -> (Machine, u64) {
    let (mut machine, other) = (Machine::new(Forgotten::Nothing), 0x30_0000);
    machine.set(other + 384 * 8, SHARED[0] | PRESENT | WRITABLE);
    machine.log(Event::ViewMade { view: 1, root: other });
    machine.log(Event::KeyTaken { view: 1, key: 4 });
    machine.enter(2);
    machine.log(Event::RootLoaded { cpu: 2, root: other });
    (machine, other)
}

#[test]
fn keys_are_their_view_s() {
    let left = |opened: u16| Event::Left { cpu: 2, opened, last: opened };
    let after = |events: &[Event]| {
        let (mut machine, _) = in_two_views();
        events.iter().for_each(|event| machine.log(*event));
        machine.broken()
    };
    assert_eq!(after(&[left(0b1_0001)]), None);
    assert_eq!(after(&[left(0b101)]), Some(Broken::LeftWithFreeKey { cpu: 2, key: 2 }), "taken in view 0");
    // The page under key 2 is shown by both views, and in both the key is on it.
    let freed = Event::KeyFreed { view: 0, key: 3 };
    assert_eq!(after(&[left(0b1_0001), freed]), None, "key 3 is open nowhere");
    let taken = Event::KeyTaken { view: 1, key: 5 };
    let word = left(0b10_0001);
    let freed = Event::KeyFreed { view: 1, key: 5 };
    assert_eq!(after(&[taken, word, freed]), Some(Broken::KeyOpen { key: 5, cpu: 2 }));
    let freed = Event::KeyFreed { view: 0, key: 5 };
    assert_eq!(after(&[taken, word, freed]), Some(Broken::KeyTwice { key: 5 }), "not taken in view 0");
    let again = Event::ViewMade { view: 2, root: root(0) };
    assert_eq!(after(&[again]), Some(Broken::Misplaced));
}

#[test]
fn what_only_another_view_shows_may_still_be_there_when_it_is_loaded_again() {
    let (mut machine, other) = in_two_views();
    machine.log(Event::RootLoaded { cpu: 2, root: root(2) });
    machine.leave(2);
    (0..CPUS).for_each(|cpu| machine.enter(cpu));
    // Taken out of view 0 alone, with all that the shared table shows.
    (0..CPUS).for_each(|cpu| machine.set(root(cpu) + 384 * 8, 0));
    (0..CPUS).for_each(|cpu| machine.log(Event::RootLoaded { cpu, root: root(cpu) }));
    let frame = 0x60_0000;
    machine.log(Event::FrameTaken { frame });
    machine.set(Machine::entry(50), leaf(frame, 4));
    machine.log(Event::FrameFreed { frame });
    assert_eq!(machine.broken(), Some(Broken::FrameMapped { frame, times: 1 }));
    assert_eq!(machine.words[&(other + 384 * 8)], SHARED[0] | PRESENT | WRITABLE);
}

#[test]
fn a_large_page_is_split_and_one_of_its_pages_changed() {
    let upper = SHARED[1] + 8;
    let large = BASE + (2 << 20);
    let mut machine = Machine::new(Forgotten::Nothing);
    machine.set(upper, leaf(0x80_0000, 2) | LARGE);
    machine.enter(0);
    let table = 0x30_0000;
    (0..512).for_each(|n| machine.set(table + n * 8, leaf(0x80_0000 + n * 4096, 2)));
    machine.set(upper, table | PRESENT | WRITABLE);
    machine.set(table + 9 * 8, leaf(0x80_9000, 2) & !WRITABLE);
    let before = machine.records.len();
    machine.log(Event::PageInvalidated { cpu: 0, address: large + 9 * 4096 });
    machine.leave(0);
    assert_eq!(machine.broken(), None, "the other pages translate as they did");
    machine.records.truncate(before);
    machine.log(Event::PageInvalidated { cpu: 0, address: large });
    machine.leave(0);
    assert!(
        matches!(machine.broken(), Some(Broken::LeftWithStale { cpu: 0, address, .. }) if address == large + 9 * 4096)
    );
}

#[test]
fn a_large_page_goes_with_one_invalidation_and_reaches_all_its_frames() {
    let (upper, large) = (SHARED[1] + 8, BASE + (2 << 20));
    let unmapped = |event: Event| {
        let mut machine = Machine::new(Forgotten::Nothing);
        machine.set(upper, leaf(0x80_0000, 2) | LARGE);
        machine.enter(0);
        machine.set(upper, 0);
        machine.log(event);
        machine.leave(0);
        machine.broken()
    };
    assert_eq!(unmapped(Event::PageInvalidated { cpu: 0, address: large + 77 * 4096 }), None);
    let beside = unmapped(Event::PageInvalidated { cpu: 0, address: large + (2 << 20) });
    assert!(matches!(beside, Some(Broken::LeftWithStale { cpu: 0, address, .. }) if address == large));
    let frame = 0x80_0000 + 77 * 4096;
    assert!(matches!(unmapped(Event::FrameTaken { frame }), Some(Broken::FrameStale { cpu: 1, .. })));
    let mut machine = Machine::new(Forgotten::Nothing);
    machine.set(upper, leaf(0x80_0000, 2) | LARGE);
    machine.log(Event::FrameTaken { frame });
    assert_eq!(machine.broken(), Some(Broken::FrameMapped { frame, times: 1 }));
}

#[test]
fn entries_of_upper_levels_are_cached_too() {
    let mut machine = inside();
    machine.set(SHARED[1], 0);
    let unlinked = machine.records.len();
    machine.leave(0);
    assert!(
        matches!(machine.broken(), Some(Broken::LeftWithStale { cpu: 0, address, .. }) if address == BASE + 7 * 4096)
    );
    // The page alone is forgotten; with it all entries of upper levels are.
    machine.records.truncate(unlinked);
    machine.log(Event::PageInvalidated { cpu: 0, address: BASE + 7 * 4096 });
    machine.leave(0);
    assert_eq!(machine.broken(), None);
    // A table without pages: nothing but the entry above it can be stale. CPU 1 may still walk through it.
    let mut machine = Machine::new(Forgotten::Nothing);
    machine.enter(0);
    machine.set(SHARED[1], 0);
    machine.log(Event::FrameTaken { frame: SHARED[2] });
    assert!(matches!(machine.broken(), Some(Broken::FrameStaleTable { cpu: 1, .. })));
    // What is written to it now may be found by walks through that entry.
    machine.records.pop();
    machine.enter(1);
    machine.set(Machine::entry(3), leaf(0x60_0000, 2));
    machine.log(Event::PageInvalidated { cpu: 1, address: BASE + 4 * 4096 });
    machine.leave(1);
    assert!(
        matches!(machine.broken(), Some(Broken::LeftWithStale { cpu: 1, address, .. }) if address == BASE + 3 * 4096)
    );
}

#[test]
fn a_new_root_forgets_all_but_global_pages() {
    let stale_after = |flag: u64, events: &[Event]| {
        let mut machine = inside();
        let entry = machine.words[&Machine::entry(7)];
        machine.set(Machine::entry(8), entry | flag);
        machine.set(Machine::entry(8), 0);
        events.iter().for_each(|event| machine.log(*event));
        machine.leave(0);
        machine.broken().is_some()
    };
    let reload = Event::RootLoaded { cpu: 0, root: root(0) };
    let toggle = Event::ControlWritten { cpu: 0, old: 0x80, new: 0 };
    let other_bit = Event::ControlWritten { cpu: 0, old: 0, new: 1 << 24 };
    assert!(stale_after(0, &[]) && !stale_after(0, &[reload]) && !stale_after(0, &[toggle]));
    assert!(stale_after(0, &[other_bit]), "CR4.PKS flushes nothing that a model could rely on");
    assert!(stale_after(GLOBAL, &[reload]) && !stale_after(GLOBAL, &[toggle]));
}

#[test]
fn what_was_not_present_needs_nothing() {
    let mut machine = inside();
    machine.set(Machine::entry(9), leaf(0x70_0000, 2) & !PRESENT);
    machine.set(Machine::entry(9), leaf(0x70_0000, 2));
    machine.leave(0);
    assert_eq!(machine.broken(), None);
}

#[test]
fn writes_that_are_not_in_the_log_are_found() {
    let mut machine = inside();
    let (entry, known) = (Machine::entry(7), machine.words[&Machine::entry(7)]);
    machine.log(Event::EntryWritten { entry, old: known | 1 << 5, new: 0 });
    assert_eq!(machine.broken(), Some(Broken::WrittenOtherwise { entry, known, found: known | 1 << 5 }));
}

#[test]
fn books_are_kept_of_frames_keys_and_crossings() {
    let after = |events: &[Event]| {
        let mut machine = inside();
        events.iter().for_each(|event| machine.log(*event));
        machine.broken()
    };
    let taken = Event::FrameTaken { frame: 0x90_0000 };
    assert_eq!(after(&[taken]), None);
    assert_eq!(after(&[taken, taken]), Some(Broken::FrameTwice { frame: 0x90_0000 }));
    assert_eq!(
        after(&[Event::FrameTaken { frame: SHARED[2] }]),
        Some(Broken::FrameIsTable { frame: SHARED[2] })
    );
    assert_eq!(after(&[Event::KeyTaken { view: 0, key: 2 }]), Some(Broken::KeyTwice { key: 2 }));
    assert_eq!(after(&[Event::KeyFreed { view: 0, key: 9 }]), Some(Broken::KeyTwice { key: 9 }));
    assert_eq!(after(&[Event::Entered { cpu: 0 }]), Some(Broken::NoCrossing { cpu: 0 }));
    assert_eq!(after(&[Event::Synced { cpu: 0 }]), Some(Broken::NotSynced { by: 0, cpu: 1 }));
    assert_eq!(after(&[Event::Entered { cpu: 200 }]), Some(Broken::Misplaced));
    let started = Event::Started { levels: 4, direct_map: 0, bytes: 0 };
    assert_eq!(after(&[started]), Some(Broken::Misplaced));
    let table = SHARED[1] | PRESENT | WRITABLE;
    let event = Event::EntryWritten { entry: SHARED[0] + 16, old: 0, new: table };
    assert_eq!(after(&[event]), Some(Broken::TableInTwoPlaces { table: SHARED[1] }));
}

#[test]
fn a_log_is_read_as_it_lies_in_memory() {
    let records = work(Forgotten::Nothing).records;
    let header = Header { capacity: 9999, written: records.len() as u64, lost: 0 };
    let put =
        |bytes: &mut Vec<u8>, words: [u64; 4]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let mut bytes = Vec::new();
    put(&mut bytes, header.encode());
    bytes.resize(HEADER_BYTES as usize, 0);
    records.iter().for_each(|record| put(&mut bytes, record.encode()));
    assert_eq!(read(&bytes), Ok(records.clone()));
    bytes.truncate(bytes.len() - 32);
    let last = records.len() as u64 - 1;
    assert_eq!(read(&bytes), Err(LogError::OutOfOrder { expected: last, found: 0 }), "the last is not there");
}

#[derive(Debug, Clone)]
enum Step {
    Map(u64, u8),
    Unmap(u64),
    Protect(u64),
    Tag(u64, u8),
    FreeKey,
    Vault,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = 0..6_u64;
    let step = prop_oneof![
        (page.clone(), 2..4_u8).prop_map(|(page, key)| Step::Map(page, key)),
        page.clone().prop_map(Step::Unmap),
        page.clone().prop_map(Step::Protect),
        (page, 2..4_u8).prop_map(|(page, key)| Step::Tag(page, key)),
        Just(Step::FreeKey),
        Just(Step::Vault),
    ];
    proptest::collection::vec(step, 1..40)
}

fn carry_out(steps: &[Step]) -> Machine {
    let mut machine = Machine::new(Forgotten::Nothing);
    for step in steps {
        let is_mapped =
            |page: &u64| machine.words.get(&Machine::entry(*page)).is_some_and(|entry| entry & 1 != 0);
        match step {
            Step::Map(page, key) if !is_mapped(page) => machine.map(*page, *key),
            Step::Unmap(page) if is_mapped(page) => machine.unmap(*page),
            Step::Protect(page) if is_mapped(page) => machine.change(*page, |entry| entry ^ WRITABLE),
            Step::Tag(page, key) if is_mapped(page) => {
                machine.change(*page, |entry| entry & !(15 << 59) | u64::from(*key) << 59);
            }
            Step::FreeKey => machine.free_key(),
            Step::Vault => machine.use_vault(),
            _ => {}
        }
    }
    machine
}

/// The records of a good log that it must not lack: INVLPGs that took something away, and that are not followed by one of the
/// same page before the CPU leaves.
fn needed(records: &[Record]) -> Vec<usize> {
    let mut model = check(&records[..1]).unwrap_or_else(|verdict| panic!("{verdict}"));
    let useful = |n: &usize| {
        let before = model.counts().useful_invalidations;
        model.take(records[*n]).unwrap_or_else(|broken| panic!("{broken}"));
        model.counts().useful_invalidations > before
    };
    let last = |n: &usize| {
        let Event::PageInvalidated { cpu, .. } = records[*n].event else { return false };
        let stay = records[n + 1..]
            .iter()
            .take_while(|r| !matches!(r.event, Event::Left { cpu: left, .. } if left == cpu));
        !stay.into_iter().any(|record| record.event == records[*n].event)
    };
    (1..records.len()).filter(useful).filter(last).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn good_logs_pass_and_need_every_invalidation(steps in steps(), pick in any::<prop::sample::Index>()) {
        let machine = carry_out(&steps);
        prop_assert_eq!(machine.broken(), None);
        let needed = needed(&machine.records);
        if !needed.is_empty() {
            let mut records = machine.records.clone();
            records.remove(needed[pick.index(needed.len())]);
            let verdict = check(&records);
            prop_assert!(matches!(verdict, Err(Verdict::Violation { .. })), "another than {:?}", verdict.err());
        }
    }
}
