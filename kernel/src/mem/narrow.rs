//! Narrow roots: for a CPU without keys, a root page table for each rights word, which shows of a view what the word opens.
//!
//! | area | in a narrow root |
//! |---|---|
//! | slots | those whose key the word opens: the tables of level 2 that the view has |
//! | regions | those whose key the word opens: the tables of level 1 that the view has |
//! | kernel | the page of gates, the text of stubs, the IDT; of the CPU's window constants, trap slots, descriptor tables |
//! | the rest | nothing, unless the word opens the kernel's key: then what that allows |
//!
//! Where a word opens a key to read, the entry above the shared table forbids writing. A region begins at a table of its
//! own ([`REGION_ALIGN`]), so that one entry decides for all of its pages.
//!
//! Each CPU has frames of its own for such tables, and makes the root that it is about to need: what has not been used for
//! longest goes. So leaving the kernel needs no memory that might not be there. A root remembers how often the view's tables
//! had changed when it was made ([`ViewTables::changes`]), and is made again when they have since.

use super::map::PageTables;
use super::paging::{ADDRESS, Table, index, is_leaf, is_present};
use super::view::{address_of, is_region, level4_of};
use super::{
    LEAF_TEST, Memory, NoFrames, PAGE, UNKEYED_TEST_PAGE, ViewTables, frame_bytes_zero, take_frame, vault,
};
use crate::arch::{entry, idt, window};
use heapless::Vec;
use libpks::abi::layout;
use libpks::pkey::{Pkey, Pkrs, Rights, pte_key};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Where regions begin, so that no table of level 1 shows two of them.
pub(crate) const REGION_ALIGN: u64 = 512 * PAGE;

/// Tables of level 1 that a region of so many pages has in each root, a guard page counted.
pub(crate) const fn tables_of(pages: u64) -> u64 {
    ((pages + 1) * PAGE).div_ceil(REGION_ALIGN)
}

/// Bytes of the area of regions that are used: what a root has room for.
pub(crate) const REGIONS_BYTES: u64 = 64 << 30;

/// The most tables that a root can need: three at the top, one of level 3 for the slot of each key, for regions one of level 3
/// and one of level 2 for each GiB, one for the page of a test.
const TABLES_AT_MOST: usize = 3 + 16 + 1 + (REGIONS_BYTES >> 30) as usize + 1;
/// Frames that each CPU has for its roots.
const FRAMES: usize = 128;
/// Roots that a CPU remembers.
const ROOTS: usize = 40;

const _: () = assert!(FRAMES >= TABLES_AT_MOST && FRAMES < NO_FRAME as usize);

/// Says that a chain of frames ends.
const NO_FRAME: u8 = u8::MAX;

/// The frames of a CPU, in chains: of those that are free, and of each root.
#[derive(Debug)]
struct Pool {
    frames: Vec<u64, FRAMES>,
    next: [u8; FRAMES],
    free: u8,
}

/// A root.
#[derive(Clone, Copy, Debug)]
struct Narrow {
    view: u32,
    word: Pkrs,
    changes: u64,
    root: Table,
    /// The first of its frames.
    frames: u8,
    /// When it was used last.
    used: u64,
}

/// What stands at the kernel's image and the CPU's window, as an entry of a table of level 4.
#[derive(Clone, Copy, Debug)]
struct Common {
    at: usize,
    /// What every domain must find.
    least: u64,
    /// All of it.
    full: u64,
}

/// How many roots a CPU has made, how many of them it remembers, and how many frames it keeps for that.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    pub(crate) made: u64,
    pub(crate) kept: u32,
    pub(crate) frames: u32,
}

/// The narrow roots of a CPU.
#[derive(Debug)]
pub(crate) struct NarrowRoots {
    /// Where the kernel runs.
    kernel: u64,
    common: Common,
    five: bool,
    pool: Pool,
    known: Vec<Narrow, ROOTS>,
    /// Roots that were asked for, and those that were made.
    asked: u64,
    made: u64,
}

impl Pool {
    /// Takes a frame into a chain, filled with zeros.
    fn take(&mut self, chain: &mut u8) -> Option<Table> {
        let taken = self.free;
        let frame = *self.frames.get(usize::from(taken))?;
        let next = core::mem::replace(&mut self.next[usize::from(taken)], *chain);
        (self.free, *chain) = (next, taken);
        frame_bytes_zero(frame);
        Some(Table(frame))
    }

    /// Gives a chain back.
    fn give_back(&mut self, mut chain: u8) {
        while chain != NO_FRAME {
            let next = core::mem::replace(&mut self.next[usize::from(chain)], self.free);
            (self.free, chain) = (chain, next);
        }
    }
}

/// An entry that shows no more than these rights allow.
fn narrowed(entry: u64, rights: Rights) -> Option<u64> {
    match rights {
        Rights::NoAccess => None,
        Rights::ReadOnly => Some(entry & !Flags::WRITABLE.bits()),
        Rights::ReadWrite => Some(entry),
    }
}

/// The same entry, but to another table.
fn leading_to(entry: u64, table: Table) -> u64 {
    entry & !ADDRESS | table.0
}

/// The key of the first page below a table.
fn key_below(table: Table, level: u8) -> Option<Pkey> {
    (0..512).map(|n| table.get(n)).filter(|&entry| is_present(entry)).find_map(|entry| {
        if is_leaf(entry, level) {
            Some(pte_key(entry))
        } else {
            key_below(Table(entry & ADDRESS), level - 1)
        }
    })
}

/// A tree of tables that is being made.
struct Growth<'a> {
    pool: &'a mut Pool,
    chain: u8,
    word: Pkrs,
}

impl Growth<'_> {
    fn take(&mut self) -> Result<Table, NoFrames> {
        self.pool.take(&mut self.chain).ok_or(NoFrames)
    }

    /// A table of level 3 or 2 with what the word opens of another one; none if that is nothing. Below entries of level
    /// `whole` all pages have the same key.
    fn narrow(&mut self, from: Table, level: u8, whole: u8) -> Result<Option<Table>, NoFrames> {
        let mut own = None;
        for n in 0..512 {
            let entry = from.get(n);
            if !is_present(entry) {
                continue;
            }
            let below = Table(entry & ADDRESS);
            let shown = if is_leaf(entry, level) {
                narrowed(entry, self.word.rights(pte_key(entry)))
            } else if level > whole {
                self.narrow(below, level - 1, whole)?.map(|own| leading_to(entry, own))
            } else {
                key_below(below, level - 1).and_then(|key| narrowed(entry, self.word.rights(key)))
            };
            if let Some(shown) = shown {
                let table = match own {
                    Some(table) => table,
                    None => *own.insert(self.take()?),
                };
                table.set(n, shown);
            }
        }
        Ok(own)
    }

    /// An entry of level 4 that leads to what the word opens of the table that it leads to now.
    fn narrow_below(&mut self, entry: u64, whole: u8) -> Result<Option<u64>, NoFrames> {
        Ok(self.narrow(Table(entry & ADDRESS), 3, whole)?.map(|own| leading_to(entry, own)))
    }

    /// The entry for the kernel's image and the window. Whoever may read the image finds it below the window that domains have.
    fn narrow_common(&mut self, common: Common) -> Result<u64, NoFrames> {
        let Common { least, full, .. } = common;
        let (image, window) = (index(layout::KERNEL_BASE, 3), index(window::BASE, 3));
        match self.word.rights(Pkey::KERNEL) {
            Rights::NoAccess => Ok(least),
            Rights::ReadWrite => Ok(full),
            Rights::ReadOnly => {
                let own = self.take()?;
                own.set(image, Table(full & ADDRESS).get(image) & !Flags::WRITABLE.bits());
                own.set(window, Table(least & ADDRESS).get(window));
                Ok(leading_to(least, own))
            }
        }
    }
}

impl NarrowRoots {
    /// Of a CPU, whose own root and the one that its kernel is to run on are given. None is made yet.
    ///
    /// # Errors
    /// [`NoFrames`].
    pub(crate) fn new(
        memory: &mut Memory,
        cpu: usize,
        own_root: u64,
        kernel: u64,
    ) -> Result<NarrowRoots, NoFrames> {
        let mut pool = Pool { frames: Vec::new(), next: [NO_FRAME; FRAMES], free: NO_FRAME };
        for number in 0..FRAMES {
            let _ = pool.frames.push(memory.allocate_frame()?);
            pool.next[number] = core::mem::replace(&mut pool.free, number as u8);
        }
        Ok(NarrowRoots {
            kernel,
            common: common(memory, cpu, own_root)?,
            five: memory.tables.levels == 5,
            pool,
            known: Vec::new(),
            asked: 0,
            made: 0,
        })
    }

    /// The root on which the kernel runs.
    pub(crate) fn kernel(&self) -> u64 {
        self.kernel
    }

    /// The root for a word in a view, which is given by its number.
    pub(crate) fn root_for(&mut self, view: u32, tables: &ViewTables, word: Pkrs) -> u64 {
        self.asked += 1;
        let asked = self.asked;
        if let Some(at) = self.known.iter().position(|known| known.view == view && known.word == word) {
            let known = &mut self.known[at];
            if known.changes == tables.changes() {
                known.used = asked;
                return known.root.0;
            }
            self.forget(at);
        }
        if self.known.is_full() {
            self.forget_oldest();
        }
        let (root, frames) = self.make(tables, word);
        let known = Narrow { view, word, changes: tables.changes(), root, frames, used: asked };
        let _ = self.known.push(known);
        root.0
    }

    /// Calls with a root for a word that is not kept.
    pub(crate) fn with_root_for<R>(
        &mut self,
        tables: &ViewTables,
        word: Pkrs,
        work_fn: impl FnOnce(u64) -> R,
    ) -> R {
        let (root, frames) = self.make(tables, word);
        let result = work_fn(root.0);
        self.pool.give_back(frames);
        result
    }

    /// For whoever inspects the CPU.
    pub(crate) fn figures(&self) -> Figures {
        Figures { made: self.made, kept: self.known.len() as u32, frames: FRAMES as u32 }
    }

    /// Calls with each root that is kept and as its view is: the view's number, the word, the root.
    pub(super) fn each(&self, mut root_fn: impl FnMut(u32, Pkrs, u64, Table)) {
        self.known.iter().for_each(|known| root_fn(known.view, known.word, known.changes, known.root));
    }

    fn forget(&mut self, at: usize) {
        let Narrow { frames, .. } = self.known.swap_remove(at);
        self.pool.give_back(frames);
    }

    /// Gives whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let oldest = (0..self.known.len()).min_by_key(|&at| self.known[at].used);
        oldest.inspect(|&at| self.forget(at)).is_some()
    }

    /// Makes a root, at the cost of others if need be. Gives it and its chain of frames.
    fn make(&mut self, tables: &ViewTables, word: Pkrs) -> (Table, u8) {
        self.made += 1;
        loop {
            let mut growth = Growth { pool: &mut self.pool, chain: NO_FRAME, word };
            let made = grow(&mut growth, tables, self.common, self.five);
            let chain = growth.chain;
            if let Ok(root) = made {
                return (root, chain);
            }
            self.pool.give_back(chain);
            // No domain can bring this about: an empty pool has as many frames as any root needs.
            assert!(self.forget_oldest(), "a root needs more frames than there are");
        }
    }
}

/// The tables of a root.
fn grow(growth: &mut Growth<'_>, tables: &ViewTables, common: Common, five: bool) -> Result<Table, NoFrames> {
    let level4 = growth.take()?;
    let (from_root, from) = tables.top();
    for (n, address) in (0..512).map(|n| (n, address_of(n))) {
        let entry = from.get(n);
        if !is_present(entry) {
            continue;
        }
        let shown = match () {
            () if n == common.at => Some(growth.narrow_common(common)?),
            () if layout::slot_of(address).is_some() || n == index(LEAF_TEST, 4) => {
                growth.narrow_below(entry, 3)?
            }
            () if is_region(address) => growth.narrow_below(entry, 2)?,
            () if n == index(UNKEYED_TEST_PAGE, 4) => Some(entry),
            () => narrowed(entry, growth.word.rights(Pkey::KERNEL)),
        };
        if let Some(shown) = shown {
            level4.set(n, shown);
        }
    }
    if !five {
        return Ok(level4);
    }
    let root = growth.take()?;
    let upper = index(layout::SLOTS_BASE, 5);
    for n in 0..512 {
        let entry = from_root.get(n);
        if is_present(entry) {
            root.set(n, if n == upper { leading_to(entry, level4) } else { entry });
        }
    }
    Ok(root)
}

/// The tables for what every domain must find of the kernel, on a CPU with this root.
fn common(memory: &mut Memory, cpu: usize, own_root: u64) -> Result<Common, NoFrames> {
    let from = PageTables::at(own_root, memory.tables.levels);
    let mut to = PageTables::at(memory.allocate_frame()?, 4);
    let frames = &mut memory.frames;
    to.reserve(layout::KERNEL_BASE, &mut || take_frame(frames)).map_err(|_| NoFrames)?;
    let window = [window::CONSTANTS, window::SLOTS, window::TABLES, idt::address()];
    for address in entry::pages().chain(window) {
        let table = to.table_at(address, 1, &mut || take_frame(frames)).map_err(|_| NoFrames)?;
        if let Some(leaf) = from.walk(address) {
            table.set(index(address, 1), leaf.entry);
        }
    }
    vault::found_narrow(cpu, to.table_of(window::VAULT));
    let at = index(layout::KERNEL_BASE, 4);
    let least = to.root.get(at);
    memory.release_frame(to.root.0);
    let full = level4_of(Table(own_root), memory.tables.levels == 5).get(at);
    Ok(Common { at, least, full })
}
