//! The page tables, as the log tells of them: words in physical memory, and where each table stands below the roots that
//! were ever loaded. Bits as in Intel SDM vol. 3A, 4.5.

use std::collections::HashMap;

use super::Broken;

/// Bytes of a page and of a table.
pub(super) const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// PWT, PCD and, in a leaf of 4 KiB, PAT.
const MEMORY_TYPE: u64 = 1 << 3 | 1 << 4 | 1 << 7;
/// PS: a leaf above level 1. In a leaf of level 1 the bit is PAT.
const LARGE: u64 = 1 << 7;
/// PAT of a large leaf.
const LARGE_PAT: u64 = 1 << 12;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A set of roots: bit n is the root that was loaded as the n-th for the first time.
pub(super) type Roots = u128;

/// What a page translates to, as a TLB keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// 1: 4 KiB, 2: 2 MiB, 3: 1 GiB.
    pub level: u8,
    /// Physical address of the first frame.
    pub frame: u64,
    /// R/W is set at every level.
    pub writable: bool,
    /// XD is clear at every level.
    pub executable: bool,
    /// U/S is set at every level.
    pub user: bool,
    /// G of the leaf.
    pub global: bool,
    /// PAT, PCD, PWT.
    pub memory_type: u8,
    /// The protection key of the leaf; 0 for a user page, whose key means nothing (CR4.PKE is 0; SDM vol. 3A, 4.6.2).
    pub key: u8,
}

impl Translation {
    /// Whether a frame is a part of the page.
    pub(super) fn reaches(&self, frame: u64) -> bool {
        frame.wrapping_sub(self.frame) < span(self.level)
    }

    /// What the part of the page that begins at `offset`, of the size that `level` has, translates to.
    fn part(self, offset: u64, level: u8) -> Translation {
        Translation { level, frame: self.frame + offset, ..self }
    }
}

/// The rights that the entries on the way to a table leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path {
    writable: bool,
    executable: bool,
    user: bool,
}

impl Path {
    const ROOT: Path = Path { writable: true, executable: true, user: true };

    fn through(self, entry: u64) -> Path {
        Path {
            writable: self.writable && entry & WRITABLE != 0,
            executable: self.executable && entry & NO_EXECUTE == 0,
            user: self.user && entry & USER != 0,
        }
    }
}

/// Where a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// First address that it translates.
    base: u64,
    level: u8,
    path: Path,
}

/// What a written entry changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The roots that lead to the entry.
    pub(super) roots: Roots,
    /// Pages that had a translation which they do not have now, and which.
    pub(super) stale: Vec<(u64, Translation)>,
    /// The table that the entry pointed to, or still points to with other rights.
    pub(super) unlinked: Option<(u64, Place)>,
}

/// The tables.
#[derive(Debug)]
pub struct Tables {
    levels: u8,
    /// First address and length of the direct map, which maps every frame whoever has it.
    direct_map: (u64, u64),
    words: HashMap<u64, Box<[u64; 512]>>,
    /// Roots that were loaded, in that order.
    roots: Vec<u64>,
    places: HashMap<u64, (Place, Roots)>,
    /// How often each frame is mapped outside of the direct map, and the large pages there.
    mapped: HashMap<u64, u32>,
    large: Vec<Translation>,
}

/// Whether a present entry of this level maps a page.
fn is_leaf(entry: u64, level: u8) -> bool {
    level == 1 || (level <= 3 && entry & LARGE != 0)
}

fn is_table(entry: u64, level: u8) -> bool {
    entry & PRESENT != 0 && !is_leaf(entry, level)
}

/// Bytes under an entry of this level.
pub(super) fn span(level: u8) -> u64 {
    PAGE << (9 * (level - 1))
}

impl Tables {
    pub(super) fn new(levels: u8, direct_map: u64, bytes: u64) -> Self {
        let (words, places, mapped) = (HashMap::new(), HashMap::new(), HashMap::new());
        let direct_map = (direct_map, bytes);
        Self { levels, direct_map, words, roots: Vec::new(), places, mapped, large: Vec::new() }
    }

    /// The tables below roots that were loaded, and what they hold.
    pub fn in_force(&self) -> impl Iterator<Item = (u64, &[u64; 512])> {
        self.words
            .iter()
            .filter(|(table, _)| self.is_in_force(**table))
            .map(|(table, words)| (*table, &**words))
    }

    /// Whether a table is below a root that was loaded.
    pub(super) fn is_in_force(&self, table: u64) -> bool {
        self.places.contains_key(&table)
    }

    /// How often a frame is mapped outside of the direct map.
    pub(super) fn times_mapped(&self, frame: u64) -> u32 {
        let large = self.large.iter().filter(|page| page.reaches(frame)).count() as u32;
        self.mapped.get(&frame).copied().unwrap_or(0) + large
    }

    /// How many pages outside of the direct map carry a key below a root.
    pub(super) fn pages_with_key(&self, root: u64, key: u8) -> u64 {
        let place = Place { base: 0, level: self.levels, path: Path::ROOT };
        self.count_keyed(root, place, key)
    }

    fn count_keyed(&self, table: u64, place: Place, key: u8) -> u64 {
        let Some(words) = self.words.get(&table) else { return 0 };
        let present = words.iter().enumerate().filter(|(_, entry)| **entry & PRESENT != 0);
        let count = |(n, &entry): (usize, &u64)| match () {
            () if self.is_direct(self.address(place, n)) => 0,
            () if is_leaf(entry, place.level) => u64::from(translation(entry, place).key == key),
            () => self.count_keyed(entry & ADDRESS, self.below(place, n, entry), key),
        };
        present.map(count).sum()
    }

    /// A frame has become zeros.
    pub(super) fn zero(&mut self, frame: u64) {
        self.words.remove(&frame);
    }

    /// A CPU uses the tables below a root. It may do so again at any time, so they stay in force.
    pub(super) fn load_root(&mut self, root: u64) -> Result<(), Broken> {
        if self.bit_of(root) != 0 {
            return Ok(());
        }
        let bit = 1_u128.checked_shl(self.roots.len() as u32).ok_or(Broken::TooManyRoots)?;
        self.roots.push(root);
        self.link(root, Place { base: 0, level: self.levels, path: Path::ROOT }, bit)
    }

    /// The set of this root alone, or none if it was never loaded.
    pub(super) fn bit_of(&self, root: u64) -> Roots {
        self.roots.iter().position(|&known| known == root).map_or(0, |n| 1 << n)
    }

    /// An entry is written.
    pub(super) fn write(&mut self, at: u64, old: u64, new: u64) -> Result<Change, Broken> {
        let (table, n) = (at & !(PAGE - 1), (at % PAGE / 8) as usize);
        let word = &mut self.words.entry(table).or_insert_with(|| Box::new([0; 512]))[n];
        if *word != old {
            return Err(Broken::WrittenOtherwise { entry: at, known: *word, found: old });
        }
        *word = new;
        let Some(&(place, roots)) = self.places.get(&table) else { return Ok(Change::default()) };
        let unlinked = is_table(old, place.level).then(|| (old & ADDRESS, self.below(place, n, old)));
        let before = self.pages_under(place, n, old);
        if let Some((table, place)) = unlinked {
            self.unlink(table, place.level, roots);
        } else {
            before.iter().for_each(|&(page, translation)| self.count(page, translation, false));
        }
        let after = self.pages_under(place, n, new);
        if is_table(new, place.level) {
            self.link(new & ADDRESS, self.below(place, n, new), roots)?;
        } else {
            after.iter().for_each(|&(page, translation)| self.count(page, translation, true));
        }
        let now: HashMap<u64, Translation> = after.into_iter().collect();
        let stale = before.into_iter().filter(|&(page, was)| !is_unchanged(page, was, &now)).collect();
        Ok(Change { roots, stale, unlinked })
    }

    /// What a table that stands, or stood, at `place` translated by an entry with this value: pages and where to.
    pub(super) fn pages_at(&self, place: Place, at: u64, entry: u64) -> Vec<(u64, Translation)> {
        self.pages_under(place, (at % PAGE / 8) as usize, entry)
    }

    /// The address of an entry's first byte, with bits above the highest one used as that (SDM vol. 1, 3.3.7.1).
    fn address(&self, place: Place, n: usize) -> u64 {
        let address = place.base | (n as u64) << (12 + 9 * (place.level - 1));
        let unused = 64 - (12 + 9 * u32::from(self.levels));
        ((address << unused) as i64 >> unused) as u64
    }

    fn below(&self, place: Place, n: usize, entry: u64) -> Place {
        Place { base: self.address(place, n), level: place.level - 1, path: place.path.through(entry) }
    }

    fn pages_under(&self, place: Place, n: usize, entry: u64) -> Vec<(u64, Translation)> {
        let mut pages = Vec::new();
        self.add_pages(place, n, entry, &mut pages);
        pages
    }

    fn add_pages(&self, place: Place, n: usize, entry: u64, pages: &mut Vec<(u64, Translation)>) {
        if entry & PRESENT == 0 {
            return;
        }
        let address = self.address(place, n);
        if !is_leaf(entry, place.level) {
            let below = self.below(place, n, entry);
            for (n, &entry) in
                self.words.get(&(entry & ADDRESS)).into_iter().flat_map(|words| words.iter().enumerate())
            {
                self.add_pages(below, n, entry, pages);
            }
            return;
        }
        pages.push((address, translation(entry, place)));
    }

    /// A table, and all below it, is reached from more roots.
    fn link(&mut self, table: u64, place: Place, roots: Roots) -> Result<(), Broken> {
        let known = self.places.get(&table).copied();
        if known.is_some_and(|(known, _)| known != place) {
            return Err(Broken::TableInTwoPlaces { table });
        }
        self.places.insert(table, (place, roots | known.map_or(0, |(_, roots)| roots)));
        let Some(words) = self.words.get(&table).cloned() else { return Ok(()) };
        for (n, &entry) in words.iter().enumerate() {
            if is_table(entry, place.level) {
                self.link(entry & ADDRESS, self.below(place, n, entry), roots)?;
            } else if known.is_none() {
                self.count_under(place, n, entry, true);
            }
        }
        Ok(())
    }

    /// A table, and all below it, is reached by these roots no more, on the way that is gone.
    fn unlink(&mut self, table: u64, level: u8, roots: Roots) {
        let Some((place, left)) = self.places.get_mut(&table) else { return };
        *left &= !roots;
        let (place, gone) = (*place, *left == 0);
        if gone {
            self.places.remove(&table);
        }
        let Some(words) = self.words.get(&table).cloned() else { return };
        for (n, &entry) in words.iter().enumerate() {
            if is_table(entry, level) {
                self.unlink(entry & ADDRESS, level - 1, roots);
            } else if gone {
                self.count_under(place, n, entry, false);
            }
        }
    }

    fn count_under(&mut self, place: Place, n: usize, entry: u64, more: bool) {
        if entry & PRESENT != 0 && !self.is_direct(self.address(place, n)) {
            let pages = self.pages_under(place, n, entry);
            pages.into_iter().for_each(|(page, translation)| self.count(page, translation, more));
        }
    }

    fn is_direct(&self, address: u64) -> bool {
        address.wrapping_sub(self.direct_map.0) < self.direct_map.1
    }

    fn count(&mut self, page: u64, translation: Translation, more: bool) {
        if self.is_direct(page) {
            return;
        }
        if translation.level == 1 {
            let times = self.mapped.entry(translation.frame).or_default();
            *times = if more { *times + 1 } else { *times - 1 };
        } else if more {
            self.large.push(translation);
        } else if let Some(at) = self.large.iter().position(|page| *page == translation) {
            self.large.swap_remove(at);
        }
    }
}

/// Whether a page still translates as it did: as a whole, or in parts that all do.
fn is_unchanged(page: u64, was: Translation, now: &HashMap<u64, Translation>) -> bool {
    if now.get(&page) == Some(&was) {
        return true;
    }
    let Some(level) = was.level.checked_sub(1).filter(|level| *level > 0) else { return false };
    let mut parts = (0..512).map(|n| n * span(level));
    parts.all(|offset| is_unchanged(page + offset, was.part(offset, level), now))
}

/// What a present leaf translates its first page to.
fn translation(entry: u64, place: Place) -> Translation {
    let path = place.path.through(entry);
    let large = place.level > 1;
    let pat = if large { (entry & LARGE_PAT) >> 5 } else { entry & LARGE };
    let memory_type = (entry & MEMORY_TYPE & !LARGE | pat) as u8;
    Translation {
        level: place.level,
        frame: entry & ADDRESS & !(span(place.level) - 1),
        writable: path.writable,
        executable: path.executable,
        user: path.user,
        global: entry & GLOBAL != 0,
        memory_type,
        key: if path.user { 0 } else { (entry >> 59 & 15) as u8 },
    }
}
