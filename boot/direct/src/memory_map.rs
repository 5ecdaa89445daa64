//! The memory map: what each part of physical memory is, and the loader's allocations in it.
//!
//! The regions are sorted, disjoint and never empty, neighbours differ in kind, usable ones are
//! page-aligned and the first page is never usable. Every allocation is entered here at once, so
//! that the map that the kernel gets is right by construction.

use core::ops::Range;
use heapless::Vec;

/// The size of a page in bytes.
pub const PAGE: u64 = 4096;
/// The most regions a map can have: firmware gives at most 128, the loader adds a few.
pub const MAX_REGIONS: usize = 256;
/// The most entries that the firmware's map can have (an E820 map has 128).
pub const MAX_FIRMWARE_ENTRIES: usize = 128;

/// What a region is; the numbers are the Limine protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Free memory.
    Usable = 0,
    /// Not memory, or the firmware's.
    Reserved = 1,
    /// ACPI tables, free once they have been read.
    AcpiReclaimable = 2,
    /// ACPI non-volatile storage.
    AcpiNvs = 3,
    /// Defective memory.
    Bad = 4,
    /// What the loader made for the kernel, free once the kernel needs it no more.
    BootloaderReclaimable = 5,
    /// The kernel's image, its file and the modules.
    ExecutableAndModules = 6,
}

impl Kind {
    /// The kind of an E820 type, of which PVH uses the numbers (ACPI 6.5 table 15.4). Unknown types
    /// are reserved.
    #[must_use]
    pub fn from_e820(number: u32) -> Self {
        match number {
            1 => Self::Usable,
            3 => Self::AcpiReclaimable,
            4 => Self::AcpiNvs,
            5 => Self::Bad,
            _ => Self::Reserved,
        }
    }

    /// Which of two kinds wins where firmware entries overlap: the more careful one.
    fn strength(self) -> u8 {
        match self {
            Self::Usable => 0,
            Self::BootloaderReclaimable | Self::ExecutableAndModules => 1,
            Self::AcpiReclaimable => 2,
            Self::AcpiNvs => 3,
            Self::Reserved => 4,
            Self::Bad => 5,
        }
    }
}

/// A part of physical memory of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The physical address of the first byte.
    pub start: u64,
    /// The physical address after the last byte.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

/// Why a map cannot be made or an allocation cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// More than [`MAX_FIRMWARE_ENTRIES`] entries or [`MAX_REGIONS`] regions.
    #[error("the memory map has too many parts")]
    TooManyRegions,
    /// The firmware's map has no usable page.
    #[error("the memory map has no usable memory")]
    NothingUsable,
    /// No usable region is large enough.
    #[error("no room for {size} bytes in usable memory from {start:#x} to {end:#x}")]
    NoRoom {
        /// The bytes that were wanted.
        size: u64,
        /// Where the search began.
        start: u64,
        /// Where the search ended.
        end: u64,
    },
}

/// The memory map.
#[derive(Debug, Clone)]
pub struct MemoryMap {
    regions: Vec<Region, MAX_REGIONS>,
}

impl MemoryMap {
    /// Makes the map from firmware entries (base, length in bytes, kind) in any order, overlapping
    /// or not. Where they overlap the more careful kind wins; of usable memory whole pages count.
    ///
    /// # Errors
    /// [`MapError::TooManyRegions`], and [`MapError::NothingUsable`] without a usable page.
    pub fn new(entries: impl Iterator<Item = (u64, u64, Kind)>) -> Result<Self, MapError> {
        let mut given: Vec<Region, MAX_FIRMWARE_ENTRIES> = Vec::new();
        let mut edges: Vec<u64, { 2 * MAX_FIRMWARE_ENTRIES + 2 }> = Vec::new();
        for (start, len, kind) in entries {
            let end = start.saturating_add(len);
            if start < end {
                given.push(Region { start, end, kind }).map_err(|_| MapError::TooManyRegions)?;
                edges.extend([start, end]);
            }
        }
        edges.sort_unstable();
        let mut map = Self { regions: Vec::new() };
        for pair in edges.windows(2) {
            let covers = given.iter().filter(|r| r.start <= pair[0] && pair[1] <= r.end);
            if let Some(strongest) = covers.max_by_key(|r| r.kind.strength()) {
                map.append(Region { start: pair[0], end: pair[1], kind: strongest.kind })?;
            }
        }
        map.trim_usable();
        if map.regions.iter().any(|r| r.kind == Kind::Usable) {
            Ok(map)
        } else {
            Err(MapError::NothingUsable)
        }
    }

    /// The regions, sorted by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The regions above 4 GiB that the direct map holds, cut off below there: all but reserved and
    /// bad memory. What is below 4 GiB it holds whole.
    pub fn mapped_above_4_gib(&self) -> impl Iterator<Item = Range<u64>> {
        let mapped = self.regions.iter().filter(|r| !matches!(r.kind, Kind::Reserved | Kind::Bad));
        mapped.map(|r| r.start.max(1 << 32)..r.end).filter(|range| range.start < range.end)
    }

    /// Whether every page that `range` touches is usable.
    #[must_use]
    pub fn is_usable(&self, range: Range<u64>) -> bool {
        let range = page_rounded(range);
        self.regions.iter().any(|r| r.kind == Kind::Usable && r.start <= range.start && range.end <= r.end)
    }

    /// Gives the usable ones of the pages that `range` touches to `kind`.
    ///
    /// # Errors
    /// [`MapError::TooManyRegions`] if the map has no room for the new borders.
    pub fn claim(&mut self, range: Range<u64>, kind: Kind) -> Result<(), MapError> {
        let range = page_rounded(range);
        let before = core::mem::take(&mut self.regions);
        for region in &before {
            let (from, to) = (region.start.max(range.start), region.end.min(range.end));
            if region.kind != Kind::Usable || from >= to {
                self.append(*region)?;
                continue;
            }
            self.append(Region { end: from, ..*region })?;
            self.append(Region { start: from, end: to, kind })?;
            self.append(Region { start: to, ..*region })?;
        }
        Ok(())
    }

    /// Takes `size` bytes (rounded up to pages) of usable memory within `window`, as high as they
    /// fit at a multiple of `align` (a power of two), and gives them to `kind`. High, so that the
    /// kernel does not come to rely on lying at the bottom of memory.
    ///
    /// # Errors
    /// [`MapError::NoRoom`], [`MapError::TooManyRegions`].
    pub fn allocate(
        &mut self,
        size: u64,
        align: u64,
        window: Range<u64>,
        kind: Kind,
    ) -> Result<u64, MapError> {
        let no_room = MapError::NoRoom { size, start: window.start, end: window.end };
        let whole = size.max(1).checked_next_multiple_of(PAGE).ok_or(no_room)?;
        let align = align.max(PAGE);
        let place = |region: &Region| {
            let start = region.start.max(window.start);
            let base = region.end.min(window.end).checked_sub(whole)? & !(align - 1);
            (region.kind == Kind::Usable && base >= start).then_some(base)
        };
        let base = self.regions.iter().rev().find_map(place).ok_or(no_room)?;
        self.claim(base..base + whole, kind)?;
        Ok(base)
    }

    /// Adds a region behind the last one, or makes that one longer. Empty regions vanish.
    fn append(&mut self, region: Region) -> Result<(), MapError> {
        if region.start >= region.end {
            return Ok(());
        }
        match self.regions.last_mut() {
            Some(last) if last.kind == region.kind && last.end == region.start => last.end = region.end,
            _ => self.regions.push(region).map_err(|_| MapError::TooManyRegions)?,
        }
        Ok(())
    }

    /// Cuts usable regions to whole pages other than page 0.
    fn trim_usable(&mut self) {
        for region in self.regions.iter_mut().filter(|r| r.kind == Kind::Usable) {
            region.start = region.start.max(PAGE).checked_next_multiple_of(PAGE).unwrap_or(region.end);
            region.end &= !(PAGE - 1);
        }
        self.regions.retain(|region| region.start < region.end);
    }
}

/// `range` with its ends moved outward to page borders, or to the end of the address space.
fn page_rounded(range: Range<u64>) -> Range<u64> {
    range.start & !(PAGE - 1)..range.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(entries: &[(u64, u64, Kind)]) -> MemoryMap {
        MemoryMap::new(entries.iter().copied()).expect("a map with usable memory")
    }

    fn region(start: u64, end: u64, kind: Kind) -> Region {
        Region { start, end, kind }
    }

    #[test]
    fn sorts_cuts_and_merges_firmware_entries() {
        let map = map(&[
            (0x10_0000, 0x1000, Kind::Usable),
            (0, 0x9fc00, Kind::Usable),
            (0x10_1000, 0x1000, Kind::Usable),
            (0x9fc00, 0x400, Kind::Reserved),
            (0x5000, 0x10, Kind::AcpiNvs),
        ]);
        assert_eq!(
            map.regions(),
            [
                region(0x1000, 0x5000, Kind::Usable),
                region(0x5000, 0x5010, Kind::AcpiNvs),
                region(0x6000, 0x9f000, Kind::Usable),
                region(0x9fc00, 0xa0000, Kind::Reserved),
                region(0x10_0000, 0x10_2000, Kind::Usable),
            ]
        );
    }

    #[test]
    fn allocates_from_the_top_of_the_window() {
        let mut map = map(&[(0, 0x10_0000, Kind::Usable), (1 << 32, 1 << 30, Kind::Usable)]);
        let low = 0x1000..1 << 32;
        assert_eq!(map.allocate(1, 1, low.clone(), Kind::BootloaderReclaimable), Ok(0xff000));
        assert_eq!(map.allocate(0x1001, 0x8000, low.clone(), Kind::ExecutableAndModules), Ok(0xf8000));
        assert_eq!(map.allocate(0x5000, 1, low.clone(), Kind::BootloaderReclaimable), Ok(0xfa000));
        let error = map.allocate(0x10_0000, 1, low, Kind::Usable).unwrap_err();
        assert_eq!(error, MapError::NoRoom { size: 0x10_0000, start: 0x1000, end: 1 << 32 });
        assert_eq!(
            map.regions()[..4],
            [
                region(0x1000, 0xf8000, Kind::Usable),
                region(0xf8000, 0xfa000, Kind::ExecutableAndModules),
                region(0xfa000, 0x10_0000, Kind::BootloaderReclaimable),
                region(1 << 32, 5 << 30, Kind::Usable),
            ]
        );
    }

    #[test]
    fn refuses_a_map_without_a_usable_page() {
        let entries =
            [(0, 0x1fff, Kind::Reserved), (0x1234, 0x1000, Kind::Usable), (0, 0x1000, Kind::Usable)];
        assert_eq!(MemoryMap::new(entries.into_iter()).unwrap_err(), MapError::NothingUsable);
        let many = (0..200).map(|n| (n * 0x2000, 0x1000, Kind::Usable));
        assert_eq!(MemoryMap::new(many).unwrap_err(), MapError::TooManyRegions);
    }

    #[test]
    fn the_bundle_must_lie_in_one_usable_region() {
        let map = map(&[(0x1000, 0x4000, Kind::Usable), (0x6000, 0x1000, Kind::Usable)]);
        assert!(map.is_usable(0x1fff..0x4001));
        assert!(!map.is_usable(0x4000..0x5001));
        assert!(!map.is_usable(0x4000..0x7000));
        assert!(!map.is_usable(0x1000..u64::MAX));
    }

    #[test]
    fn reserved_memory_above_4_gib_is_not_mapped() {
        let map = map(&[
            (0x1000, 1 << 31, Kind::Usable),
            (0xffff_f000, 0x2000, Kind::AcpiNvs),
            (1 << 33, 1 << 30, Kind::Usable),
            (1 << 40, 1 << 30, Kind::Reserved),
            (1 << 41, 1 << 30, Kind::Bad),
        ]);
        let mapped: std::vec::Vec<_> = map.mapped_above_4_gib().collect();
        assert_eq!(mapped, [1 << 32..(1 << 32) + 0x1000, 1 << 33..9 << 30]);
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            3 => Just(Kind::Usable), 1 => Just(Kind::Reserved), 1 => Just(Kind::AcpiReclaimable),
            1 => Just(Kind::AcpiNvs), 1 => Just(Kind::Bad),
        ]
    }

    fn check_order(map: &MemoryMap) {
        for pair in map.regions().windows(2) {
            assert!(pair[0].end <= pair[1].start, "overlap: {pair:x?}");
        }
        for r in map.regions() {
            assert!(r.start < r.end, "empty: {r:x?}");
            let aligned = r.start.is_multiple_of(PAGE) && r.end.is_multiple_of(PAGE) && r.start >= PAGE;
            assert!(r.kind != Kind::Usable || aligned, "usable and not of whole pages: {r:x?}");
        }
    }

    fn kind_at(map: &MemoryMap, address: u64) -> Option<Kind> {
        map.regions().iter().find(|r| r.start <= address && address < r.end).map(|r| r.kind)
    }

    proptest! {
        #[test]
        fn usable_is_what_only_usable_entries_cover(
            entries in prop::collection::vec((0u64..0x20000, 0u64..0x8000, kind()), 1..20),
        ) {
            let Ok(map) = MemoryMap::new(entries.iter().copied()) else { return Ok(()) };
            check_order(&map);
            // Byte by byte: Miri has time for the first pages only.
            for page in 0..if cfg!(miri) { 4 } else { 0x28 } {
                let bytes = page * PAGE..(page + 1) * PAGE;
                let usable = page != 0 && bytes.clone().all(|address| {
                    let mut over = entries.iter().filter(|e| e.0 <= address && address < e.0 + e.1).peekable();
                    over.peek().is_some() && over.all(|e| e.2 == Kind::Usable)
                });
                prop_assert_eq!(kind_at(&map, bytes.start) == Some(Kind::Usable), usable, "page {}", page);
            }
        }

        #[test]
        fn allocations_are_disjoint_and_were_usable(
            entries in prop::collection::vec((0u64..0x100_000, 0u64..0x80_000, kind()), 1..12),
            wishes in prop::collection::vec((1u64..0x9000, 0u32..5), 1..20),
        ) {
            let Ok(mut map) = MemoryMap::new(entries.iter().copied()) else { return Ok(()) };
            for (size, shift) in wishes {
                let before = map.clone();
                let Ok(base) = map.allocate(size, PAGE << shift, PAGE..0x100_000, Kind::BootloaderReclaimable)
                    else { continue };
                check_order(&map);
                prop_assert!(base.is_multiple_of(PAGE << shift) && base >= PAGE && base + size <= 0x100_000);
                for page in (base..base + size).step_by(PAGE as usize) {
                    prop_assert_eq!(kind_at(&before, page), Some(Kind::Usable));
                    prop_assert_eq!(kind_at(&map, page), Some(Kind::BootloaderReclaimable));
                }
            }
        }
    }
}
