//! Memory: frames, page tables, the direct map, and storage for the kernel's own objects.
//!
//! | area | addresses | key |
//! |---|---|---|
//! | test page | `0x0000_0080_0000_0000` | as asked; the only U/S=1 page there can be |
//! | direct map of all RAM | from `0xffff_8000_0000_0000` | 1 |
//! | domain slots | from `0xffff_c000_0000_0000` | the domain's |
//! | shared regions | from `0xffff_e000_0000_0000` | the sharing class's |
//! | kernel tables | from `0xffff_f000_0000_0000` | 1 |
//! | device registers of the kernel | from `0xffff_f800_0000_0000` | 1 |
//! | kernel image | `0xffff_ffff_8000_0000` | 1; the IDT 0 |
//! | CPU window | `0xffff_ffff_c000_0000` | see `arch::window` |
//!
//! Top-level entries are made at boot, or with a view (`view`); every CPU's root holds the same ones but for the last
//! GiB. Only the kernel's own root, on which no domain runs, has all slots and all regions.

pub(crate) mod audit;
pub(crate) mod bringup;
mod direct;
mod map;
mod narrow;
mod paging;
mod table;
pub(crate) mod translations;
pub(crate) mod vault;
mod view;

pub(crate) use bringup::forget_init;
pub(crate) use direct::{copy_from_frame, copy_to_frame, frame_bytes_zero, read_physical, write_mailbox};
pub(crate) use map::{Leaf, MapError, Mapping, PageTables};
pub(crate) use narrow::{
    Figures, NarrowRoots, REGION_ALIGN, REGIONS_BYTES as NARROW_REGIONS_BYTES, tables_of,
};
pub(crate) use table::ReservedTable;
pub(crate) use view::{ViewTables, is_region};

use libpks::frames::FrameBitmap;
use libpks::translations::Event;
use spin::Mutex;

/// Bytes of a page and of a frame.
pub(crate) const PAGE: u64 = 4096;
/// The direct map's first address.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The most physical memory that the direct map can hold.
pub(crate) const DIRECT_MAP_BYTES: u64 = 1 << 46;
/// Storage of the kernel's objects.
pub(crate) const KERNEL_TABLES: u64 = 0xffff_f000_0000_0000;
/// Bytes of that area.
pub(crate) const KERNEL_TABLES_BYTES: u64 = 4 << 39;
/// Device registers that the kernel uses.
pub(crate) const DEVICES: u64 = 0xffff_f800_0000_0000;
/// Where SelfTest maps a leaf of each size for the length of one operation, a GiB for each size.
pub(crate) const LEAF_TEST: u64 = DEVICES + (1 << 38);
/// The page of K5 to K7 (docs/testing.md).
pub(crate) const UNKEYED_TEST_PAGE: u64 = 0x0000_0080_0000_0000;

/// No frame is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no free memory")]
pub(crate) struct NoFrames;

/// Physical memory and the page tables that lie in it.
pub(crate) struct Memory {
    pub(crate) frames: FrameBitmap<'static>,
    pub(crate) tables: PageTables,
    /// Frames that the kernel managed at boot.
    pub(crate) frames_total: u64,
    next_device: u64,
    /// Where the frame bitmap lies: physical address and words.
    bitmap: (u64, usize),
}

/// Taken after the kernel's lock, never before it, and never held across an exit.
static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

/// Runs something with the memory.
///
/// # Panics
/// Before bring-up has handed the memory over, or when called from within itself.
pub(crate) fn with<R>(work_fn: impl FnOnce(&mut Memory) -> R) -> R {
    // No domain can bring this about: after bring-up it is reached only under the kernel's lock, which is not taken
    // twice on a CPU; what runs without that lock (NMI, nested traps) does not come here.
    let mut memory = MEMORY.try_lock().expect("memory is used by one CPU at a time");
    work_fn(memory.as_mut().expect("memory is there after bring-up"))
}

impl Memory {
    /// Takes a frame, filled with zeros. Gives its physical address.
    ///
    /// # Errors
    /// [`NoFrames`].
    pub(crate) fn allocate_frame(&mut self) -> Result<u64, NoFrames> {
        take_frame(&mut self.frames).ok_or(NoFrames)
    }

    /// Gives a frame back.
    ///
    /// # Panics
    /// If it was not taken: the kernel's books are wrong then.
    pub(crate) fn release_frame(&mut self, physical: u64) {
        translations::step(|| {
            self.frames.release(physical / PAGE).expect("only what was taken is given back");
            Some(Event::FrameFreed { frame: physical })
        });
    }

    /// Maps device registers for the kernel, uncached, for good. Gives the address.
    ///
    /// # Errors
    /// [`MapError::NoFrames`] if a page table is missing and none can be had.
    pub(crate) fn map_device(&mut self, physical: u64, bytes: u64) -> Result<u64, MapError> {
        let offset = physical % PAGE;
        let pages = (offset + bytes).div_ceil(PAGE);
        let start = self.next_device;
        for page in 0..pages {
            let at = physical - offset + page * PAGE;
            self.map_page(start + page * PAGE, at, Mapping::device(libpks::pkey::Pkey::KERNEL))?;
        }
        // A guard page between devices.
        self.next_device += (pages + 1) * PAGE;
        Ok(start + offset)
    }

    /// Gives back the tables of level 1 of a region that is mapped no more, in a view or else in the kernel's own root. Only
    /// where they are the region's own, and no CPU has a root with them in force.
    pub(crate) fn release_tables(&mut self, mut view: Option<&mut ViewTables>, address: u64, pages: u64) {
        for at in (0..tables_of(pages)).map(|n| address + n * REGION_ALIGN) {
            let emptied = match &mut view {
                Some(view) => view.take_empty_table(at),
                None => self.tables.take_empty_table(at),
            };
            if let Some(frame) = emptied {
                self.release_frame(frame);
            }
        }
    }

    /// Maps one page.
    ///
    /// # Errors
    /// [`MapError::NoFrames`], [`MapError::Taken`] if something is mapped there.
    pub(crate) fn map_page(&mut self, address: u64, physical: u64, mapping: Mapping) -> Result<(), MapError> {
        self.map_leaf(address, physical, 1, mapping)
    }

    /// Maps a page of the size that leaves of this level have: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB.
    ///
    /// # Errors
    /// As [`map_page`](Self::map_page).
    pub(crate) fn map_leaf(
        &mut self,
        address: u64,
        physical: u64,
        level: u8,
        mapping: Mapping,
    ) -> Result<(), MapError> {
        let frames = &mut self.frames;
        self.tables.map_at_level(address, physical, level, mapping, &mut || take_frame(frames))
    }
}

/// Takes a frame, filled with zeros, and gives its physical address. The one way to a single frame.
fn take_frame(frames: &mut FrameBitmap<'_>) -> Option<u64> {
    let mut taken = None;
    translations::step(|| {
        let frame = frames.allocate()? * PAGE;
        frame_bytes_zero(frame);
        taken = Some(frame);
        Some(Event::FrameTaken { frame })
    });
    taken
}
