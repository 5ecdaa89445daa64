//! The model of what CPUs may translate, against which a log of translations is checked.
//!
//! A CPU may keep a translation, and entries of upper levels too, from the moment they are present in its tables until it
//! invalidates them (Intel SDM vol. 3A, 4.10.2, 4.10.3). So each CPU may always hold what is in the tables now; what the
//! model keeps for it is what was there before and differs: the *stale* ones. A CPU has the tables below the root that it loaded last.
//!
//! | record | what the model does |
//! |---|---|
//! | an entry changes | what it translated before becomes stale on all CPUs whose root leads there. What was not present is not cached and needs nothing (4.10.2.3, 4.10.4.3) |
//! | INVLPG | that page, whatever its size, is forgotten on that CPU, and all its entries of upper levels (4.10.4.1, 4.10.4.2) |
//! | MOV CR3 | all is forgotten on that CPU but global pages; MOV CR4 with another PGE: those too (4.10.4.1). What a root leads to that was loaded once counts as mapped from then on, for it may be loaded again |
//! | a CPU leaves to a domain | it must hold nothing stale, and its rights word opens no key that is free |
//! | an operation is done | no other CPU is with a domain; this one holds nothing stale of the range |
//! | a frame is freed or taken | it is mapped nowhere, and no CPU that runs a domain holds a stale translation to it |
//! | a key of a view is freed or taken | no page that the view shows carries it, no CPU that runs a domain there holds a stale translation with it or runs under a word that opens it |
//!
//! A CPU that is in the kernel may still hold what is stale: it touches no domain's memory there, and it must be rid of
//! it when it leaves.

mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use libpks::translations::{Event, HEADER_BYTES, Header, LogError, RECORD_BYTES, Record};

use tables::{PAGE, Place, span};
pub use tables::{Tables, Translation};

/// The most CPUs that a log may tell of.
const CPUS: usize = 64;
/// CR4.PGE.
const GLOBAL_PAGES: u64 = 1 << 7;

/// A rule that the log breaks. `since` is the number of the record that made something stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is in the message")]
pub enum Broken {
    #[error(
        "CPU {cpu} leaves to a domain and may still translate {address:#x} as before record {since}: {was:?}"
    )]
    LeftWithStale { cpu: u8, address: u64, since: u64, was: Translation },
    #[error(
        "CPU {cpu} leaves to a domain and may still walk through the table at {table:#x} as before record {since}"
    )]
    LeftWithStaleTable { cpu: u8, table: u64, since: u64 },
    #[error("CPU {cpu} leaves under a word that opens key {key}, which is free")]
    LeftWithFreeKey { cpu: u8, key: u8 },
    #[error("CPU {by} goes on although CPU {cpu} runs a domain")]
    NotSynced { by: u8, cpu: u8 },
    #[error(
        "CPU {cpu} takes {address:#x} for invalidated and may still translate it as before record {since}"
    )]
    NotInvalidated { cpu: u8, address: u64, since: u64 },
    #[error(
        "the frame at {frame:#x} changes hands while CPU {cpu} runs a domain and may translate {address:#x} to it as before record {since}"
    )]
    FrameStale { frame: u64, cpu: u8, address: u64, since: u64 },
    #[error(
        "the frame at {frame:#x} changes hands while CPU {cpu} runs a domain and may walk through it as before record {since}"
    )]
    FrameStaleTable { frame: u64, cpu: u8, since: u64 },
    #[error("the frame at {frame:#x} changes hands and is mapped {times} times")]
    FrameMapped { frame: u64, times: u32 },
    #[error("the frame at {frame:#x} changes hands and is a page table")]
    FrameIsTable { frame: u64 },
    #[error("the frame at {frame:#x} is taken or freed twice in a row")]
    FrameTwice { frame: u64 },
    #[error(
        "key {key} changes hands while CPU {cpu} runs a domain and may translate {address:#x} with it as before record {since}"
    )]
    KeyStale { key: u8, cpu: u8, address: u64, since: u64 },
    #[error("key {key} changes hands and {pages} pages carry it")]
    KeyOnPages { key: u8, pages: u64 },
    #[error("key {key} changes hands while CPU {cpu} runs a domain under a word that opens it")]
    KeyOpen { key: u8, cpu: u8 },
    #[error("key {key} is taken or freed twice in a row, or is none")]
    KeyTwice { key: u8 },
    #[error("the entry at {entry:#x} was {found:#x} before it was written, and {known:#x} by the log")]
    WrittenOtherwise { entry: u64, known: u64, found: u64 },
    #[error("the table at {table:#x} stands in two places")]
    TableInTwoPlaces { table: u64 },
    #[error("more roots than the model keeps books for")]
    TooManyRoots,
    #[error("CPU {cpu} is where it was, or has no root")]
    NoCrossing { cpu: u8 },
    #[error("not a record that can stand here")]
    Misplaced,
}

/// Why a log is not a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Verdict {
    /// It cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It breaks a rule.
    #[error("record {record} ({event:?}): {broken}")]
    Violation {
        /// The number of the record.
        record: u64,
        /// What it tells.
        event: Event,
        /// The rule.
        broken: Broken,
    },
}

/// What a log told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Entries that were written.
    pub entries: u64,
    /// Translations that became stale, counted on each CPU that could hold them.
    pub stale: u64,
    /// INVLPGs.
    pub invalidations: u64,
    /// INVLPGs that took a stale translation away.
    pub useful_invalidations: u64,
    /// Times that a CPU was found to leave with nothing stale.
    pub exits: u64,
    /// Operations that were done on all CPUs.
    pub operations: u64,
    /// Frames that were freed.
    pub frames_freed: u64,
    /// Keys that were freed.
    pub keys_freed: u64,
}

#[derive(Debug, Default)]
struct Cpu {
    root: Option<u64>,
    /// It runs a domain.
    outside: bool,
    /// Keys that the word opens under which it left.
    opened: u16,
    /// By page and level: what it may still translate it to, and the record that took that away.
    stale: HashMap<(u64, u8), Vec<(Translation, u64)>>,
    /// Tables that it may still walk through.
    tables: Vec<(u64, Place, u64)>,
}

impl Cpu {
    /// Something stale for which `is_meant` holds: page, translation and the record.
    fn find(&self, is_meant: impl Fn(&Translation) -> bool) -> Option<(u64, Translation, u64)> {
        let all = self
            .stale
            .iter()
            .flat_map(|((page, _), was)| was.iter().map(|(was, since)| (*page, *was, *since)));
        all.filter(|(_, was, _)| is_meant(was)).min_by_key(|(page, _, since)| (*since, *page))
    }
}

/// What the log has told so far.
#[derive(Debug)]
pub struct Model {
    tables: Tables,
    cpus: Vec<Cpu>,
    /// Frames that the log has told of: whether they are taken.
    frames: HashMap<u64, bool>,
    /// The view that has a root.
    views: HashMap<u64, u32>,
    /// Keys that are handed out, by view.
    keys: HashMap<u32, u16>,
    counts: Counts,
}

/// Takes a log apart as it lay in memory, header and records.
///
/// # Errors
/// [`LogError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Record>, LogError> {
    let words = |at: usize| -> [u64; 4] {
        let word = |n: usize| bytes.get(at + n * 8..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        std::array::from_fn(|n| word(n).unwrap_or(0))
    };
    let header = Header::decode(words(0))?;
    let place = |number: u64| (HEADER_BYTES + number * RECORD_BYTES) as usize;
    (0..header.written).map(|number| Record::decode(words(place(number)), number)).collect()
}

/// Checks a log from its first record on. Gives the model as it is behind the last.
///
/// # Errors
/// [`Verdict::Violation`] with the first record that breaks a rule.
pub fn check(records: &[Record]) -> Result<Model, Verdict> {
    let violation =
        |record: Record, broken| Verdict::Violation { record: record.number, event: record.event, broken };
    let mut records = records.iter().copied();
    let first = records.next().ok_or(LogError::NotALog(0))?;
    let Event::Started { levels: levels @ 4..=5, direct_map, bytes } = first.event else {
        return Err(violation(first, Broken::Misplaced));
    };
    let mut model = Model {
        tables: Tables::new(levels, direct_map, bytes),
        cpus: (0..CPUS).map(|_| Cpu::default()).collect(),
        frames: HashMap::new(),
        views: HashMap::new(),
        keys: HashMap::new(),
        counts: Counts { records: 1, ..Counts::default() },
    };
    for record in records {
        model.take(record).map_err(|broken| violation(record, broken))?;
    }
    Ok(model)
}

impl Model {
    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The page tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    fn cpu(&self, cpu: u8) -> Result<&Cpu, Broken> {
        self.cpus.get(usize::from(cpu)).ok_or(Broken::Misplaced)
    }

    fn cpu_mut(&mut self, cpu: u8) -> Result<&mut Cpu, Broken> {
        self.cpus.get_mut(usize::from(cpu)).ok_or(Broken::Misplaced)
    }

    /// The view that is in force on a CPU.
    fn view_of(&self, cpu: &Cpu) -> Option<u32> {
        self.views.get(&cpu.root?).copied()
    }

    /// CPUs that run a domain.
    fn outside(&self) -> impl Iterator<Item = (u8, &Cpu)> {
        (0..).zip(&self.cpus).filter(|(_, cpu)| cpu.outside)
    }

    fn take(&mut self, record: Record) -> Result<(), Broken> {
        self.counts.records += 1;
        match record.event {
            Event::Started { .. } => Err(Broken::Misplaced),
            Event::EntryWritten { entry, old, new } => self.write(record.number, entry, old, new),
            Event::RootLoaded { cpu, root } => {
                self.cpu_mut(cpu)?.root = Some(root);
                self.tables.load_root(root)?;
                self.forget(cpu, |was| !was.global)
            }
            Event::ControlWritten { cpu, old, new } => {
                if (old ^ new) & GLOBAL_PAGES != 0 {
                    self.forget(cpu, |_| true)
                } else {
                    Ok(())
                }
            }
            Event::PageInvalidated { cpu, address } => {
                let books = self.cpu_mut(cpu)?;
                books.tables.clear();
                let mut useful = false;
                for level in 1..=3 {
                    useful |= books.stale.remove(&(address & !(span(level) - 1), level)).is_some();
                }
                self.counts.invalidations += 1;
                self.counts.useful_invalidations += u64::from(useful);
                Ok(())
            }
            Event::Entered { cpu } => {
                let was = std::mem::replace(&mut self.cpu_mut(cpu)?.outside, false);
                if was { Ok(()) } else { Err(Broken::NoCrossing { cpu }) }
            }
            Event::Left { cpu, opened, last } => self.leave(cpu, opened, last),
            Event::Synced { cpu } => self.all_inside_but(cpu),
            Event::Invalidated { cpu, address, pages } => self.invalidated(cpu, address, pages),
            Event::FrameTaken { frame } => self.hand_frame(frame, true),
            Event::FrameFreed { frame } => self.hand_frame(frame, false),
            Event::ViewMade { view, root } => match self.views.insert(root, view) {
                None => Ok(()),
                Some(_) => Err(Broken::Misplaced),
            },
            Event::KeyTaken { view, key } => self.hand_key(view, key, true),
            Event::KeyFreed { view, key } => self.hand_key(view, key, false),
        }
    }

    fn write(&mut self, number: u64, entry: u64, old: u64, new: u64) -> Result<(), Broken> {
        self.counts.entries += 1;
        let change = self.tables.write(entry, old, new)?;
        for cpu in &mut self.cpus {
            // Through an entry of an upper level that it still has, a CPU may find what is written to a table that is
            // no longer linked; afterwards that is neither in its tables nor anything else's.
            for &(_, place, _) in cpu.tables.iter().filter(|(table, ..)| *table == entry & !(PAGE - 1)) {
                for (page, translation) in self.tables.pages_at(place, entry, new) {
                    cpu.stale.entry((page, translation.level)).or_default().push((translation, number));
                }
            }
            if cpu.root.is_none_or(|root| change.roots & self.tables.bit_of(root) == 0) {
                continue;
            }
            cpu.tables.extend(change.unlinked.map(|(table, place)| (table, place, number)));
            self.counts.stale += change.stale.len() as u64;
            for &(page, was) in &change.stale {
                cpu.stale.entry((page, was.level)).or_default().push((was, number));
            }
        }
        Ok(())
    }

    /// A CPU forgets all entries of upper levels and the translations for which `is_meant` holds.
    fn forget(&mut self, cpu: u8, is_meant: impl Fn(&Translation) -> bool) -> Result<(), Broken> {
        let books = self.cpu_mut(cpu)?;
        books.tables.clear();
        books.stale.retain(|_, was| {
            was.retain(|(was, _)| !is_meant(was));
            !was.is_empty()
        });
        Ok(())
    }

    fn leave(&mut self, cpu: u8, opened: u16, last: u16) -> Result<(), Broken> {
        // Keys 0 and 1 are never free. The kernel's own root, on which CPUs idle, has no others.
        let taken = self.view_of(self.cpu(cpu)?).and_then(|view| self.keys.get(&view));
        let free = opened & !taken.copied().unwrap_or(0) & !0b11;
        let books = self.cpu_mut(cpu)?;
        if books.root.is_none() || books.outside {
            return Err(Broken::NoCrossing { cpu });
        }
        (books.outside, books.opened) = (true, last);
        if let Some((address, was, since)) = books.find(|_| true) {
            return Err(Broken::LeftWithStale { cpu, address, since, was });
        }
        if let Some(&(table, _, since)) = books.tables.first() {
            return Err(Broken::LeftWithStaleTable { cpu, table, since });
        }
        if free != 0 {
            return Err(Broken::LeftWithFreeKey { cpu, key: free.trailing_zeros() as u8 });
        }
        self.counts.exits += 1;
        Ok(())
    }

    fn all_inside_but(&mut self, by: u8) -> Result<(), Broken> {
        match self.outside().find(|(cpu, _)| *cpu != by) {
            Some((cpu, _)) => Err(Broken::NotSynced { by, cpu }),
            None => Ok(()),
        }
    }

    fn invalidated(&mut self, cpu: u8, address: u64, pages: u64) -> Result<(), Broken> {
        self.all_inside_but(cpu)?;
        self.counts.operations += 1;
        let stale = &self.cpu(cpu)?.stale;
        let address = address & !(PAGE - 1);
        let in_range = |(page, level): (u64, u8)| {
            page.wrapping_sub(address) / PAGE < pages || address.wrapping_sub(page) < span(level)
        };
        let left = stale.iter().filter(|(page, _)| in_range(**page)).min_by_key(|(page, _)| **page);
        match left.and_then(|((page, _), was)| Some((*page, was.first()?.1))) {
            Some((address, since)) => Err(Broken::NotInvalidated { cpu, address, since }),
            None => Ok(()),
        }
    }

    fn hand_frame(&mut self, frame: u64, taken: bool) -> Result<(), Broken> {
        let before = self.frames.insert(frame, taken);
        // Of a frame that was free, or was the loader's, at the start the log has told nothing.
        if before == Some(taken) {
            return Err(Broken::FrameTwice { frame });
        }
        let times = self.tables.times_mapped(frame);
        if times > 0 {
            return Err(Broken::FrameMapped { frame, times });
        }
        if self.tables.is_in_force(frame) {
            return Err(Broken::FrameIsTable { frame });
        }
        for (cpu, books) in self.outside() {
            if let Some((address, _, since)) = books.find(|was| was.reaches(frame)) {
                return Err(Broken::FrameStale { frame, cpu, address, since });
            }
            if let Some(&(_, _, since)) = books.tables.iter().find(|(table, ..)| *table == frame) {
                return Err(Broken::FrameStaleTable { frame, cpu, since });
            }
        }
        if taken {
            self.tables.zero(frame);
        }
        self.counts.frames_freed += u64::from(!taken);
        Ok(())
    }

    fn hand_key(&mut self, view: u32, key: u8, taken: bool) -> Result<(), Broken> {
        let keys = self.keys.entry(view).or_default();
        if !(2..16).contains(&key) || (*keys & 1 << key != 0) == taken {
            return Err(Broken::KeyTwice { key });
        }
        *keys ^= 1 << key;
        let roots = self.views.iter().filter(|&(_, of)| *of == view);
        let pages = roots.map(|(&root, _)| self.tables.pages_with_key(root, key)).max().unwrap_or(0);
        if pages > 0 {
            return Err(Broken::KeyOnPages { key, pages });
        }
        for (cpu, books) in self.outside().filter(|(_, books)| self.view_of(books) == Some(view)) {
            if let Some((address, _, since)) = books.find(|was| was.key == key) {
                return Err(Broken::KeyStale { key, cpu, address, since });
            }
            if books.opened & 1 << key != 0 {
                return Err(Broken::KeyOpen { key, cpu });
            }
        }
        self.counts.keys_freed += u64::from(!taken);
        Ok(())
    }
}
