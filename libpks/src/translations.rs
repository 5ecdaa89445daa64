//! The log of translations: what a kernel built with the feature `log-translations` records of its page tables and of
//! what its CPUs may remember of them, and what the harness on the host checks against a model.
//!
//! The emulator flushes its whole TLB at every write of PKRS, so a missing INVLPG changes nothing that a guest could
//! see. It shows in this log.
//!
//! The log is a [`Header`] of one page and behind it records of [`RECORD_WORDS`] words, in physical memory. The kernel
//! says on its console where: [`ANNOUNCEMENT`] and the address. Each record is written in one step with what it tells of,
//! so the order of the log is the order in which things happened, over all CPUs.
#![forbid(unsafe_code)]

/// What the kernel says before the physical address of the header, in hexadecimal with `0x`.
pub const ANNOUNCEMENT: &str = "translations are recorded at ";
/// The first word of a header: the name and the version of the format.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TRANSL\0\x02");
/// Bytes of the header.
pub const HEADER_BYTES: u64 = 4096;
/// Words of a record.
pub const RECORD_WORDS: usize = 4;
/// Bytes of a record.
pub const RECORD_BYTES: u64 = RECORD_WORDS as u64 * 8;

/// The words at the log's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many records there is room for.
    pub capacity: u64,
    /// How many there are.
    pub written: u64,
    /// How many found no room. A log that has lost records shows nothing.
    pub lost: u64,
}

impl Header {
    /// The words as they lie in memory.
    #[must_use]
    pub const fn encode(self) -> [u64; 4] {
        [MAGIC, self.capacity, self.written, self.lost]
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`LogError::NotALog`], [`LogError::Lost`], [`LogError::Miscounted`].
    pub const fn decode(words: [u64; 4]) -> Result<Header, LogError> {
        let [magic, capacity, written, lost] = words;
        if magic != MAGIC {
            return Err(LogError::NotALog(magic));
        }
        if lost > 0 {
            return Err(LogError::Lost { lost, capacity });
        }
        if written > capacity {
            return Err(LogError::Miscounted { written, capacity });
        }
        Ok(Header { capacity, written, lost })
    }
}

/// Why a log cannot be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The header begins with something else than [`MAGIC`].
    #[error("not a log of translations: it begins with {0:#x}")]
    NotALog(u64),
    /// The log was full.
    #[error("{lost} records found no room among {capacity}")]
    Lost {
        /// How many.
        lost: u64,
        /// How many there is room for.
        capacity: u64,
    },
    /// There are more records than room.
    #[error("{written} records where {capacity} have room")]
    Miscounted {
        /// How many there should be.
        written: u64,
        /// How many there is room for.
        capacity: u64,
    },
    /// A record has another number than its place.
    #[error("record {expected} has the number {found}")]
    OutOfOrder {
        /// Its place.
        expected: u64,
        /// Its number.
        found: u64,
    },
    /// A record tells of nothing that is known.
    #[error("record {number} is of the unknown kind {kind}")]
    UnknownKind {
        /// Its number.
        number: u64,
        /// Its kind.
        kind: u8,
    },
}

/// What a record tells. Addresses of frames, tables and entries are physical and in bytes; `cpu` is the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first record: how deep the tables are, and where all RAM is mapped for the kernel, whoever has it.
    Started {
        /// 4 or 5.
        levels: u8,
        /// First address of the direct map.
        direct_map: u64,
        /// Its length.
        bytes: u64,
    },
    /// An entry of a page table has another value.
    EntryWritten {
        /// Where it lies.
        entry: u64,
        /// What it was.
        old: u64,
        /// What it is.
        new: u64,
    },
    /// MOV to CR3.
    RootLoaded {
        /// On which CPU.
        cpu: u8,
        /// The root table.
        root: u64,
    },
    /// MOV to CR4.
    ControlWritten {
        /// On which CPU.
        cpu: u8,
        /// What CR4 was.
        old: u64,
        /// What it is.
        new: u64,
    },
    /// INVLPG.
    PageInvalidated {
        /// On which CPU.
        cpu: u8,
        /// An address in the page.
        address: u64,
    },
    /// A CPU came into the kernel, from a domain.
    Entered {
        /// Which.
        cpu: u8,
    },
    /// A CPU left the kernel, to a domain. One record may stand for several of this CPU, with its returns, between which
    /// nothing else was recorded.
    Left {
        /// Which.
        cpu: u8,
        /// Keys that the rights words opened under which it left: bit k is key k.
        opened: u16,
        /// Those of the last word among them.
        last: u16,
    },
    /// A CPU has made sure that every other is in the kernel.
    Synced {
        /// Which.
        cpu: u8,
    },
    /// A CPU has made sure that no domain runs, or will run, with an older translation of a range.
    Invalidated {
        /// Which.
        cpu: u8,
        /// Where the range begins.
        address: u64,
        /// Its pages of 4 KiB.
        pages: u64,
    },
    /// A frame was taken, and filled with zeros.
    FrameTaken {
        /// Its address.
        frame: u64,
    },
    /// A frame was given back.
    FrameFreed {
        /// Its address.
        frame: u64,
    },
    /// There is a view more; a record for each of its roots. Nothing is told of its keys before.
    ViewMade {
        /// Its number.
        view: u32,
        /// The root that one CPU loads.
        root: u64,
    },
    /// A hardware key was handed out.
    KeyTaken {
        /// The view's number.
        view: u32,
        /// 2 to 15.
        key: u8,
    },
    /// A hardware key was given back.
    KeyFreed {
        /// The view's number.
        view: u32,
        /// 2 to 15.
        key: u8,
    },
}

/// A record: what happened, and as which, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub number: u64,
    /// What it tells.
    pub event: Event,
}

impl Record {
    /// The words as they lie in memory: kind, CPU (or levels, or key) and number in the first.
    #[must_use]
    pub const fn encode(self) -> [u64; RECORD_WORDS] {
        let (kind, small, a, b, c) = match self.event {
            Event::Started { levels, direct_map, bytes } => (1, levels, direct_map, bytes, 0),
            Event::EntryWritten { entry, old, new } => (2, 0, entry, old, new),
            Event::RootLoaded { cpu, root } => (3, cpu, root, 0, 0),
            Event::ControlWritten { cpu, old, new } => (4, cpu, old, new, 0),
            Event::PageInvalidated { cpu, address } => (5, cpu, address, 0, 0),
            Event::Entered { cpu } => (6, cpu, 0, 0, 0),
            Event::Left { cpu, opened, last } => (7, cpu, opened as u64, last as u64, 0),
            Event::Synced { cpu } => (8, cpu, 0, 0, 0),
            Event::Invalidated { cpu, address, pages } => (9, cpu, address, pages, 0),
            Event::FrameTaken { frame } => (10, 0, frame, 0, 0),
            Event::FrameFreed { frame } => (11, 0, frame, 0, 0),
            Event::KeyTaken { view, key } => (12, key, view as u64, 0, 0),
            Event::KeyFreed { view, key } => (13, key, view as u64, 0, 0),
            Event::ViewMade { view, root } => (14, 0, view as u64, root, 0),
        };
        [self.number << 16 | (small as u64) << 8 | kind, a, b, c]
    }

    /// Reads the record that must have this number.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`], [`LogError::UnknownKind`].
    pub const fn decode(words: [u64; RECORD_WORDS], expected: u64) -> Result<Record, LogError> {
        let [first, a, b, c] = words;
        let (number, small, kind) = (first >> 16, (first >> 8) as u8, first as u8);
        if number != expected {
            return Err(LogError::OutOfOrder { expected, found: number });
        }
        let event = match kind {
            1 => Event::Started { levels: small, direct_map: a, bytes: b },
            2 => Event::EntryWritten { entry: a, old: b, new: c },
            3 => Event::RootLoaded { cpu: small, root: a },
            4 => Event::ControlWritten { cpu: small, old: a, new: b },
            5 => Event::PageInvalidated { cpu: small, address: a },
            6 => Event::Entered { cpu: small },
            7 => Event::Left { cpu: small, opened: a as u16, last: b as u16 },
            8 => Event::Synced { cpu: small },
            9 => Event::Invalidated { cpu: small, address: a, pages: b },
            10 => Event::FrameTaken { frame: a },
            11 => Event::FrameFreed { frame: a },
            12 => Event::KeyTaken { view: a as u32, key: small },
            13 => Event::KeyFreed { view: a as u32, key: small },
            14 => Event::ViewMade { view: a as u32, root: b },
            kind => return Err(LogError::UnknownKind { number, kind }),
        };
        Ok(Record { number, event })
    }
}

/// Where a CPU is, for [`Crossings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Crossing {
    /// It runs a domain, by the records that were written.
    told_outside: bool,
    /// It runs a domain.
    outside: bool,
    /// It has left since the last record that was written.
    left: bool,
    /// Keys that the words opened under which it left since then, and those of the last.
    opened: u16,
    last: u16,
}

/// Gathers the ways of `N` CPUs in and out of the kernel, which are very many, until something else is recorded. What
/// lies between two other records makes no difference to them, so nothing is lost by telling it once.
#[derive(Clone, Debug)]
pub struct Crossings<const N: usize>([Crossing; N]);

impl<const N: usize> Default for Crossings<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Crossings<N> {
    /// All CPUs are in the kernel.
    #[must_use]
    pub const fn new() -> Self {
        let inside = Crossing { told_outside: false, outside: false, left: false, opened: 0, last: 0 };
        Self([inside; N])
    }

    /// A CPU came in; a second time in a row means nothing.
    pub fn enter(&mut self, cpu: usize) {
        if let Some(crossing) = self.0.get_mut(cpu) {
            crossing.outside = false;
        }
    }

    /// A CPU leaves under a word that opens these keys.
    pub fn leave(&mut self, cpu: usize, opened: u16) {
        if let Some(crossing) = self.0.get_mut(cpu) {
            (crossing.outside, crossing.left, crossing.last) = (true, true, opened);
            crossing.opened |= opened;
        }
    }

    /// Tells what has come together.
    pub fn tell(&mut self, mut record_fn: impl FnMut(Event)) {
        for (cpu, crossing) in self.0.iter_mut().enumerate() {
            let cpu = cpu as u8;
            let Crossing { told_outside, outside, left, opened, last } = *crossing;
            if told_outside && (left || !outside) {
                record_fn(Event::Entered { cpu });
            }
            if left {
                record_fn(Event::Left { cpu, opened, last });
                if !outside {
                    record_fn(Event::Entered { cpu });
                }
            }
            *crossing = Crossing { told_outside: outside, outside, left: false, opened: 0, last };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn records_survive_memory() {
        let events = [
            Event::Started { levels: 5, direct_map: 0xffff_8000_0000_0000, bytes: 1 << 46 },
            Event::EntryWritten { entry: 0x1008, old: 3, new: u64::MAX },
            Event::RootLoaded { cpu: 63, root: 0x1000 },
            Event::ControlWritten { cpu: 1, old: 0x80, new: 0 },
            Event::PageInvalidated { cpu: 255, address: u64::MAX - 4095 },
            Event::Entered { cpu: 2 },
            Event::Left { cpu: 3, opened: 0xffff, last: 0x21 },
            Event::Synced { cpu: 4 },
            Event::Invalidated { cpu: 5, address: 0xffff_c000_0000_0000, pages: 77 },
            Event::FrameTaken { frame: 0x2000 },
            Event::FrameFreed { frame: 0x3000 },
            Event::ViewMade { view: 3, root: 0x5000 },
            Event::KeyTaken { view: 0, key: 2 },
            Event::KeyFreed { view: 4096, key: 15 },
        ];
        for (number, event) in (0..).zip(events) {
            let record = Record { number, event };
            assert_eq!(Record::decode(record.encode(), number), Ok(record));
        }
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let header = Header { capacity: 10, written: 10, lost: 0 };
        assert_eq!(Header::decode(header.encode()), Ok(header));
        let lost = Header { lost: 1, ..header };
        assert_eq!(Header::decode(lost.encode()), Err(LogError::Lost { lost: 1, capacity: 10 }));
        let more = Header { written: 11, ..header };
        assert_eq!(Header::decode(more.encode()), Err(LogError::Miscounted { written: 11, capacity: 10 }));
        assert_eq!(Header::decode([0; 4]), Err(LogError::NotALog(0)));
        let record = Record { number: 7, event: Event::Synced { cpu: 1 } }.encode();
        assert_eq!(Record::decode(record, 8), Err(LogError::OutOfOrder { expected: 8, found: 7 }));
        assert_eq!(Record::decode([0; 4], 0), Err(LogError::UnknownKind { number: 0, kind: 0 }));
        assert_eq!(Record::decode([15, 0, 0, 0], 0), Err(LogError::UnknownKind { number: 0, kind: 15 }));
    }

    fn told(crossings: &mut Crossings<2>) -> Vec<Event> {
        let mut events = Vec::new();
        crossings.tell(|event| events.push(event));
        events
    }

    #[test]
    fn crossings_are_told_once() {
        let (entered, left) =
            (|cpu| Event::Entered { cpu }, |cpu, opened, last| Event::Left { cpu, opened, last });
        let mut crossings = Crossings::<2>::new();
        crossings.enter(1);
        assert_eq!(told(&mut crossings), [], "it is inside already");
        crossings.leave(0, 0b100);
        assert_eq!(told(&mut crossings), [left(0, 0b100, 0b100)]);
        assert_eq!(told(&mut crossings), []);
        crossings.enter(0);
        crossings.leave(0, 0b1000);
        crossings.enter(0);
        crossings.leave(0, 0b10000);
        assert_eq!(told(&mut crossings), [entered(0), left(0, 0b11000, 0b10000)]);
        crossings.enter(0);
        crossings.leave(1, 1);
        crossings.enter(1);
        assert_eq!(told(&mut crossings), [entered(0), left(1, 1, 1), entered(1)]);
        assert_eq!(told(&mut crossings), []);
    }
}
