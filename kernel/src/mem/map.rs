//! The page tables that all CPUs share below their roots.

use super::paging::{ADDRESS, Table, index, is_leaf, is_present, leaf_flags, table_entry};
use super::{PAGE, UNKEYED_TEST_PAGE};
use crate::arch::protection;
use libpks::abi::layout;
use libpks::pkey::{Pkey, pte_key, pte_with_key};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Why a page could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// No frame for a page table.
    #[error("no free memory for a page table")]
    NoFrames,
    /// Something is mapped there already.
    #[error("address is mapped already")]
    Taken,
    /// The address lies in none of the areas that have a top-level entry.
    #[error("address lies outside of every area")]
    OutsideAreas,
}

/// Rights and key of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) uncached: bool,
    /// Out of the keys' reach: with PKS a page with U/S set, with PKU one without (Intel SDM vol. 3A, 4.6.2).
    pub(crate) unkeyed: bool,
    pub(crate) key: Pkey,
}

impl Mapping {
    /// Data that can be written.
    pub(crate) const fn data(key: Pkey) -> Mapping {
        Mapping { writable: true, executable: false, uncached: false, unkeyed: false, key }
    }

    /// Data that cannot.
    pub(crate) const fn constant(key: Pkey) -> Mapping {
        Mapping { writable: false, executable: false, uncached: false, unkeyed: false, key }
    }

    /// Instructions.
    pub(crate) const fn text(key: Pkey) -> Mapping {
        Mapping { writable: false, executable: true, uncached: false, unkeyed: false, key }
    }

    /// Device registers.
    pub(crate) const fn device(key: Pkey) -> Mapping {
        Mapping { writable: true, executable: false, uncached: true, unkeyed: false, key }
    }

    /// What the CPU reads by itself, or an exit compares with: in force under any PKRS, because no word of it opens or
    /// closes such a page. Nothing runs in user mode, and SMAP is off, so U/S means nothing else.
    pub(crate) const READ_UNDER_ANY_PKRS: Mapping =
        Mapping { unkeyed: true, ..Mapping::constant(Pkey::OPEN) };

    /// What the CPU pushes to: the same, and writable.
    pub(crate) const WRITTEN_UNDER_ANY_PKRS: Mapping = Mapping { unkeyed: true, ..Mapping::data(Pkey::OPEN) };

    pub(super) fn flags(self) -> u64 {
        let user = self.unkeyed != protection::in_force().covers_user_pages();
        leaf_flags(self.writable, self.executable, self.uncached, user, self.key)
    }
}

/// Whether the entry of this level for an address has U/S set, so that leaves below it decide: with PKU every one, else
/// those that lead to the test page, and to the area of the kernel's image and the CPU windows.
pub(super) fn leaves_decide_user(address: u64, level: u8) -> bool {
    let last = address | ((PAGE << (9 * (level as u64 - 1))) - 1);
    let first = last & !((PAGE << (9 * (level as u64 - 1))) - 1);
    protection::in_force().covers_user_pages()
        || (first <= UNKEYED_TEST_PAGE && UNKEYED_TEST_PAGE <= last)
        || last >= layout::KERNEL_BASE
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// The entry.
    pub(crate) entry: u64,
    /// 1: 4 KiB, 2: 2 MiB, 3: 1 GiB.
    pub(crate) level: u8,
    /// U/S is set at every level.
    pub(crate) user: bool,
}

impl Leaf {
    /// The key of the page.
    pub(crate) fn key(self) -> Pkey {
        pte_key(self.entry)
    }

    /// The physical address of the 4 KiB frame under `address`.
    pub(crate) fn frame(self, address: u64) -> u64 {
        let bytes = PAGE << (9 * (u64::from(self.level) - 1));
        (self.entry & ADDRESS & !(bytes - 1)) | (address & (bytes - 1) & !(PAGE - 1))
    }

    /// Whether the keys cover the page.
    pub(crate) fn is_keyed(self) -> bool {
        self.user == protection::in_force().covers_user_pages()
    }

    /// Whether the page can be written as far as the leaf says.
    pub(crate) fn writable(self) -> bool {
        self.entry & Flags::WRITABLE.bits() != 0
    }

    /// Whether the page can be executed as far as the leaf says.
    pub(crate) fn executable(self) -> bool {
        self.entry & Flags::NO_EXECUTE.bits() == 0
    }
}

/// Hangs a new table below another one.
fn hang_table(table: Table, address: u64, level: u8, frames: FrameSource<'_>) -> Result<Table, MapError> {
    let below = Table(frames().ok_or(MapError::NoFrames)?);
    table.set(index(address, level), table_entry(below, leaves_decide_user(address, level)));
    Ok(below)
}

/// Gives a zeroed frame for a page table.
pub(crate) type FrameSource<'a> = &'a mut dyn FnMut() -> Option<u64>;

/// The tree of page tables, from the bootstrap CPU's root.
pub(crate) struct PageTables {
    pub(super) root: Table,
    /// 4 or 5.
    pub(crate) levels: u8,
}

impl PageTables {
    /// The tables below a root, to look at.
    pub(crate) const fn at(root: u64, levels: u8) -> PageTables {
        PageTables { root: Table(root), levels }
    }

    /// The lowest table entry for an address: the leaf or the first that is not present. The table it lies in, its
    /// level and whether U/S is set so far.
    fn descend(&self, address: u64) -> (Table, u8, bool) {
        let (mut table, mut level, mut user) = (self.root, self.levels, true);
        loop {
            let entry = table.get(index(address, level));
            if !is_present(entry) || is_leaf(entry, level) {
                return (table, level, user && entry & Flags::USER_ACCESSIBLE.bits() != 0);
            }
            user &= entry & Flags::USER_ACCESSIBLE.bits() != 0;
            table = Table(entry & ADDRESS);
            level -= 1;
        }
    }

    /// What is mapped at an address.
    pub(crate) fn walk(&self, address: u64) -> Option<Leaf> {
        let (table, level, user) = self.descend(address);
        let entry = table.get(index(address, level));
        (is_present(entry) && is_leaf(entry, level)).then_some(Leaf { entry, level, user })
    }

    /// Maps a page of the size that `leaf_level` has.
    pub(super) fn map_at_level(
        &mut self,
        address: u64,
        physical: u64,
        leaf_level: u8,
        mapping: Mapping,
        frames: FrameSource<'_>,
    ) -> Result<(), MapError> {
        loop {
            let (table, level, _) = self.descend(address);
            let at = index(address, level);
            if is_present(table.get(at)) || level < leaf_level {
                return Err(MapError::Taken);
            }
            if level == leaf_level {
                let large = if leaf_level > 1 { Flags::HUGE_PAGE.bits() } else { 0 };
                table.set(at, physical | mapping.flags() | large);
                return Ok(());
            }
            self.add_table(table, address, level, frames)?;
        }
    }

    /// The lowest table that there is for an address.
    pub(super) fn table_of(&self, address: u64) -> Table {
        self.descend(address).0
    }

    /// The table of a level that an address leads to, which is made where it is missing.
    ///
    /// # Errors
    /// [`MapError::NoFrames`], [`MapError::Taken`] if a large page is there, [`MapError::OutsideAreas`].
    pub(super) fn table_at(
        &mut self,
        address: u64,
        wanted: u8,
        frames: FrameSource<'_>,
    ) -> Result<Table, MapError> {
        let mut table = self.root;
        for level in (wanted + 1..=self.levels).rev() {
            let entry = table.get(index(address, level));
            if is_present(entry) {
                if is_leaf(entry, level) {
                    return Err(MapError::Taken);
                }
                table = Table(entry & ADDRESS);
                continue;
            }
            table = self.add_table(table, address, level, frames)?;
        }
        Ok(table)
    }

    /// A new table below another one. Top-level entries are made at boot and with a view: the roots of all CPUs have
    /// the same.
    fn add_table(
        &self,
        table: Table,
        address: u64,
        level: u8,
        frames: FrameSource<'_>,
    ) -> Result<Table, MapError> {
        if level == self.levels || (self.levels == 5 && level == 4) {
            return Err(MapError::OutsideAreas);
        }
        hang_table(table, address, level, frames)
    }

    /// Makes the tables of the upper levels for an address, at boot.
    pub(super) fn reserve(&mut self, address: u64, frames: FrameSource<'_>) -> Result<(), MapError> {
        loop {
            let (table, level, _) = self.descend(address);
            if level <= 3 {
                return Ok(());
            }
            hang_table(table, address, level, frames)?;
        }
    }

    /// Takes a page of 4 KiB out and gives the frame. The caller invalidates it on every CPU before the frame is used
    /// again.
    pub(crate) fn unmap(&mut self, address: u64) -> Option<u64> {
        let leaf = self.walk(address).filter(|leaf| leaf.level == 1)?;
        self.remove_leaf(address);
        Some(leaf.frame(address))
    }

    /// Takes out the table of level 1 for an address, if nothing is mapped below it, and gives its frame. No CPU has a root with
    /// it in force.
    pub(super) fn take_empty_table(&mut self, address: u64) -> Option<u64> {
        let below = |table: Table, level| {
            let entry = table.get(index(address, level));
            (is_present(entry) && !is_leaf(entry, level)).then_some(Table(entry & ADDRESS))
        };
        let level2 = (3..=self.levels).rev().try_fold(self.root, below)?;
        let level1 = below(level2, 2)?;
        if (0..512).any(|n| is_present(level1.get(n))) {
            return None;
        }
        level2.set(index(address, 2), 0);
        Some(level1.0)
    }

    /// Takes out the leaf that maps an address, whatever its size. The caller invalidates it on every CPU.
    pub(crate) fn remove_leaf(&mut self, address: u64) {
        let (table, level, _) = self.descend(address);
        table.set(index(address, level), 0);
    }

    /// Gives a page of 4 KiB another key. The caller invalidates it on every CPU. Gives whether a page was there.
    pub(crate) fn set_key(&mut self, address: u64, key: Pkey) -> bool {
        self.change(address, |entry| pte_with_key(entry, key))
    }

    /// Gives a page of 4 KiB other rights. The caller invalidates it on every CPU.
    pub(crate) fn protect(&mut self, address: u64, mapping: Mapping) -> bool {
        self.change(address, |entry| (entry & ADDRESS) | mapping.flags())
    }

    fn change(&mut self, address: u64, change_fn: impl FnOnce(u64) -> u64) -> bool {
        let Some(leaf) = self.walk(address).filter(|leaf| leaf.level == 1) else { return false };
        let (table, level, _) = self.descend(address);
        table.set(index(address, level), change_fn(leaf.entry));
        true
    }

    /// Replaces large pages above an address by 4 KiB ones with the same rights. Translations do not change; the
    /// caller invalidates the address before it changes one of the new pages.
    pub(crate) fn split(&mut self, address: u64, frames: FrameSource<'_>) -> Result<(), MapError> {
        while let Some(leaf) = self.walk(address).filter(|leaf| leaf.level > 1) {
            let table = Table(frames().ok_or(MapError::NoFrames)?);
            let below = leaf.level - 1;
            let step = PAGE << (9 * (u64::from(below) - 1));
            let large = if below == 1 { Flags::HUGE_PAGE.bits() } else { 0 };
            for n in 0..512 {
                table.set(n, (leaf.entry + n as u64 * step) & !large);
            }
            let (parent, level, _) = self.descend(address);
            parent.set(index(address, level), table_entry(table, leaf.user));
        }
        Ok(())
    }
}
