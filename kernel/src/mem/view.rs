//! The page tables of a view: what all roots of the kernel share, and of slots and regions only what is its own.
//!
//! | area | in a view |
//! |---|---|
//! | slots | the tables of level 2 of its domains' slots: the same that the kernel's own root has there |
//! | regions | leaves of its own, under its own keys, for the regions that its domains hold |
//! | all other | the tables that the kernel's root of each CPU has, the CPU's window among them |
//!
//! The kernel's own root of each CPU, which no domain runs on, has every slot and every region.

use super::map::{Leaf, PageTables, leaves_decide_user};
use super::paging::{ADDRESS, Table, index, is_present, table_entry};
use super::{Memory, NoFrames, PAGE, take_frame};
use crate::boot::MAX_CPUS;
use heapless::Vec;
use libpks::abi::layout;
use libpks::pkey::{Pkey, pte_with_key};

/// What a CPU has of a view.
#[derive(Clone, Copy, Debug)]
struct Top {
    root: Table,
    /// The table of level 4; with 4 levels that is the root.
    level4: Table,
}

/// The tables of a view.
#[derive(Debug)]
pub(crate) struct ViewTables {
    /// By CPU; where each rights word has a root, of the first alone, for no CPU loads them. All have the same entries but
    /// for the one that leads to the window.
    tops: Vec<Top, MAX_CPUS>,
    /// How often something was shown, hidden or put under another key.
    changes: u64,
}

/// Whether an address is in the area of regions.
pub(crate) fn is_region(address: u64) -> bool {
    (layout::REGIONS_BASE..layout::REGIONS_BASE + layout::REGIONS_BYTES).contains(&address)
}

/// Whether each view has entries of its own at an address.
fn is_own(address: u64) -> bool {
    layout::slot_of(address).is_some() || is_region(address)
}

/// The first address under an entry of a table of level 4.
pub(super) fn address_of(entry: usize) -> u64 {
    // All areas but the test page's lie in the upper half.
    let sign = if entry >= 256 { !0 << 48 } else { 0 };
    sign | (entry as u64) << 39
}

impl ViewTables {
    /// Tables without a slot and without a region, below the kernel's roots of all CPUs.
    ///
    /// # Errors
    /// [`NoFrames`]; nothing is taken then.
    pub(crate) fn new(memory: &mut Memory, kernel_roots: &[u64]) -> Result<ViewTables, NoFrames> {
        let mut view = ViewTables { tops: Vec::new(), changes: 0 };
        for &root in kernel_roots {
            match copy_top(memory, Table(root)) {
                Ok(top) => drop(view.tops.push(top)),
                Err(error) => {
                    view.release(memory);
                    return Err(error);
                }
            }
        }
        Ok(view)
    }

    /// Gives back what `new` took, before any CPU has used it.
    fn release(self, memory: &mut Memory) {
        for Top { root, level4 } in self.tops {
            memory.release_frame(level4.0);
            if root != level4 {
                memory.release_frame(root.0);
            }
        }
    }

    /// The root that a CPU loads.
    pub(crate) fn root(&self, cpu: usize) -> u64 {
        self.tops[cpu].root.0
    }

    /// The roots of all CPUs.
    pub(crate) fn roots(&self) -> impl Iterator<Item = u64> {
        self.tops.iter().map(|top| top.root.0)
    }

    /// How often something was shown, hidden or put under another key so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The root and the table of level 4 as the first CPU has them.
    pub(super) fn top(&self) -> (Table, Table) {
        let Top { root, level4 } = self.tops[0];
        (root, level4)
    }

    /// As the first CPU has them: the others lead to the same tables.
    fn tables(&self) -> PageTables {
        PageTables::at(self.tops[0].level4.0, 4)
    }

    /// Makes the table of level 3 for an address, on all CPUs.
    fn reserve(&mut self, memory: &mut Memory, address: u64) -> Result<(), NoFrames> {
        let at = index(address, 4);
        if is_present(self.tops[0].level4.get(at)) {
            return Ok(());
        }
        let table = Table(memory.allocate_frame()?);
        let entry = table_entry(table, leaves_decide_user(address, 4));
        self.tops.iter().for_each(|top| top.level4.set(at, entry));
        Ok(())
    }

    /// Shows a slot: what is mapped there, now and later.
    ///
    /// # Errors
    /// [`NoFrames`].
    pub(crate) fn show_slot(&mut self, memory: &mut Memory, base: u64) -> Result<(), NoFrames> {
        self.changes += 1;
        self.reserve(memory, base)?;
        let frames = &mut memory.frames;
        let below = memory.tables.table_at(base, 2, &mut || take_frame(frames)).map_err(|_| NoFrames)?;
        let entry = table_entry(below, leaves_decide_user(base, 3));
        self.tables().table_of(base).set(index(base, 3), entry);
        Ok(())
    }

    /// Shows a slot no longer. The caller invalidates it on every CPU.
    pub(crate) fn hide_slot(&mut self, base: u64) {
        self.changes += 1;
        let level4 = self.tops[0].level4.get(index(base, 4));
        if is_present(level4) {
            Table(level4 & ADDRESS).set(index(base, 3), 0);
        }
    }

    /// Shows a page of a region, under a key of the view, as the kernel's own root has it.
    ///
    /// # Errors
    /// [`NoFrames`].
    pub(crate) fn show_page(&mut self, memory: &mut Memory, address: u64, key: Pkey) -> Result<(), NoFrames> {
        let Some(leaf) = memory.tables.walk(address).filter(|leaf| leaf.level == 1) else { return Ok(()) };
        self.changes += 1;
        self.reserve(memory, address)?;
        let frames = &mut memory.frames;
        let table = self.tables().table_at(address, 1, &mut || take_frame(frames)).map_err(|_| NoFrames)?;
        table.set(index(address, 1), pte_with_key(leaf.entry, key));
        Ok(())
    }

    /// Shows pages of a region no longer. The caller invalidates them on every CPU.
    pub(crate) fn hide_pages(&mut self, address: u64, pages: u64) {
        self.changes += 1;
        for page in 0..pages {
            self.tables().unmap(address + page * PAGE);
        }
    }

    /// See [`PageTables::take_empty_table`].
    pub(super) fn take_empty_table(&mut self, address: u64) -> Option<u64> {
        self.changes += 1;
        self.tables().take_empty_table(address)
    }

    /// Gives pages of a region another key. The caller invalidates them on every CPU.
    pub(crate) fn set_key(&mut self, address: u64, pages: u64, key: Pkey) {
        self.changes += 1;
        for page in 0..pages {
            self.tables().set_key(address + page * PAGE, key);
        }
    }

    /// Where the roots of a view are not as they must be: an entry of its own that another CPU has otherwise, and an entry
    /// for the kernel's memory that its CPU's own root, given by CPU, has otherwise. The first address of each.
    pub(super) fn odd_entries(&self, kernel_roots: &[u64]) -> [Option<u64>; 2] {
        let mut odd = [None; 2];
        for (top, &kernel_root) in self.tops.iter().zip(kernel_roots) {
            let from = level4_of(Table(kernel_root), top.root != top.level4);
            for (n, address) in (0..512).map(|n| (n, address_of(n))) {
                let own = is_own(address);
                let other = if own { self.tops[0].level4 } else { from };
                if top.level4.get(n) != other.get(n) {
                    odd[usize::from(!own)].get_or_insert(address);
                }
            }
        }
        odd
    }

    /// Calls with each table of level 3 that the view has of its own, and the first address under it.
    pub(super) fn each_own(&self, mut table_fn: impl FnMut(Table, u64)) {
        for (n, address) in (0..512).map(|n| (n, address_of(n))).filter(|&(_, address)| is_own(address)) {
            let entry = self.tops[0].level4.get(n);
            if is_present(entry) {
                table_fn(Table(entry & ADDRESS), address);
            }
        }
    }

    /// What is mapped at an address.
    pub(crate) fn walk(&self, address: u64) -> Option<Leaf> {
        // From the root, for with 5 levels the test page is below another table of level 4.
        let Top { root, level4 } = self.tops[0];
        PageTables::at(root.0, if root == level4 { 4 } else { 5 }).walk(address)
    }
}

/// The table of level 4 below a root, with 5 levels or with 4.
pub(super) fn level4_of(root: Table, five: bool) -> Table {
    if five { Table(root.get(index(layout::SLOTS_BASE, 5)) & ADDRESS) } else { root }
}

/// A copy of what a root of the kernel's has above the areas, without slots and regions.
fn copy_top(memory: &mut Memory, kernel_root: Table) -> Result<Top, NoFrames> {
    let level4 = Table(memory.allocate_frame()?);
    let upper = index(layout::SLOTS_BASE, 5);
    let five = memory.tables.levels == 5;
    let from = level4_of(kernel_root, five);
    for n in (0..512).filter(|&n| !is_own(address_of(n))) {
        let entry = from.get(n);
        if is_present(entry) {
            level4.set(n, entry);
        }
    }
    if !five {
        return Ok(Top { root: level4, level4 });
    }
    let root = match memory.allocate_frame() {
        Ok(frame) => Table(frame),
        Err(error) => {
            memory.release_frame(level4.0);
            return Err(error);
        }
    };
    for n in 0..512 {
        let entry = kernel_root.get(n);
        if is_present(entry) {
            root.set(n, if n == upper { table_entry(level4, true) } else { entry });
        }
    }
    Ok(Top { root, level4 })
}
