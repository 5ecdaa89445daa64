//! Entries of page tables (Intel SDM vol. 3A, 4.5) and how they are reached.

use super::{direct, translations};
use libpks::pkey::{Pkey, pte_with_key};
use libpks::translations::Event;
use x86_64::structures::paging::PageTableFlags as Flags;

/// The physical address in an entry.
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One page table: the physical address of its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(pub(crate) u64);

impl Table {
    /// Reads an entry.
    pub(crate) fn get(self, index: usize) -> u64 {
        direct::read_word(self.0 + (index as u64 % 512) * 8)
    }

    /// Writes an entry. A present entry that changes needs an invalidation on every CPU. Nothing else writes to a page
    /// table.
    pub(crate) fn set(self, index: usize, entry: u64) {
        let at = self.0 + (index as u64 % 512) * 8;
        translations::step(|| {
            let old = if translations::ON { direct::read_word(at) } else { 0 };
            direct::write_word(at, entry);
            (entry != old).then_some(Event::EntryWritten { entry: at, old, new: entry })
        });
    }
}

/// Which entry of a table of this level (1 to 5) an address uses.
pub(crate) const fn index(address: u64, level: u8) -> usize {
    ((address >> (12 + 9 * (level as u64 - 1))) & 511) as usize
}

/// An entry that points to a table. Rights are decided by the leaf; U/S is set where the leaf decides that too
/// (`map.rs`). Accessed is set beforehand, as in leaves.
pub(crate) fn table_entry(table: Table, user: bool) -> u64 {
    let mut flags = Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED;
    flags.set(Flags::USER_ACCESSIBLE, user);
    table.0 | flags.bits()
}

/// Whether an entry is present.
pub(crate) const fn is_present(entry: u64) -> bool {
    entry & Flags::PRESENT.bits() != 0
}

/// Whether a present entry of this level maps a page.
pub(crate) const fn is_leaf(entry: u64, level: u8) -> bool {
    level == 1 || (level <= 3 && entry & Flags::HUGE_PAGE.bits() != 0)
}

/// The rights and the key of a leaf.
pub(crate) fn leaf_flags(writable: bool, executable: bool, uncached: bool, user: bool, key: Pkey) -> u64 {
    // Accessed and dirty are set beforehand, so the CPU never writes to a table.
    let mut flags = Flags::PRESENT | Flags::ACCESSED | Flags::DIRTY;
    flags.set(Flags::WRITABLE, writable);
    flags.set(Flags::NO_EXECUTE, !executable);
    flags.set(Flags::NO_CACHE, uncached);
    flags.set(Flags::WRITE_THROUGH, uncached);
    flags.set(Flags::USER_ACCESSIBLE, user);
    pte_with_key(flags.bits(), key)
}
