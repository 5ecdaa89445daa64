//! Storage for the kernel's objects: tables that grow page by page in address ranges reserved for them.

use super::{KERNEL_TABLES, KERNEL_TABLES_BYTES, MapError, Mapping, PAGE};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use libpks::pkey::Pkey;
use libpks::table::{OutOfMemory, Table};

/// Address space that a table reserves. Nothing is mapped until it is used.
const RANGE_BYTES: u64 = 1 << 34;

/// Where the next table begins.
static NEXT_RANGE: AtomicU64 = AtomicU64::new(KERNEL_TABLES);

/// A growing array at a fixed address: an entry never moves, and its address is one multiplication away.
pub(crate) struct ReservedTable<T> {
    base: u64,
    len: u32,
    mapped_bytes: u64,
    entries: PhantomData<T>,
}

impl<T> ReservedTable<T> {
    /// An empty table in a range of its own.
    ///
    /// # Panics
    /// When the area is used up; the kernel makes a fixed number of tables, at boot.
    pub(crate) fn new() -> Self {
        let base = NEXT_RANGE.fetch_add(RANGE_BYTES, Ordering::Relaxed);
        assert!(base + RANGE_BYTES <= KERNEL_TABLES + KERNEL_TABLES_BYTES, "kernel tables are used up");
        Self { base, len: 0, mapped_bytes: 0, entries: PhantomData }
    }

    /// Where an entry is, or would be.
    pub(crate) fn address_of(&self, index: u32) -> u64 {
        self.base + u64::from(index) * size_of::<T>() as u64
    }

    fn entry(&self, index: u32) -> *mut T {
        core::ptr::with_exposed_provenance_mut::<T>(self.base as usize).wrapping_add(index as usize)
    }

    /// Backs the range with frames until `bytes` of it are mapped.
    fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        super::with(|memory| {
            while self.mapped_bytes < bytes {
                let frame = memory.allocate_frame().map_err(|_| OutOfMemory)?;
                let mapped =
                    memory.map_page(self.base + self.mapped_bytes, frame, Mapping::data(Pkey::KERNEL));
                if let Err(error) = mapped {
                    debug_assert!(error == MapError::NoFrames, "{error}");
                    memory.release_frame(frame);
                    return Err(OutOfMemory);
                }
                self.mapped_bytes += PAGE;
            }
            Ok(())
        })
    }
}

impl<T> Table<T> for ReservedTable<T> {
    fn len(&self) -> u32 {
        self.len
    }

    fn get(&self, index: u32) -> Option<&T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: `push` mapped and wrote every entry below `len`; the range belongs to this table alone, and its
        // borrow rules are those of `self`.
        Some(unsafe { &*self.entry(index) })
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: as in `get`.
        Some(unsafe { &mut *self.entry(index) })
    }

    fn push(&mut self, value: T) -> Result<u32, OutOfMemory> {
        let index = self.len;
        let bytes = (u64::from(index) + 1) * size_of::<T>() as u64;
        if bytes > RANGE_BYTES || index == u32::MAX {
            return Err(OutOfMemory);
        }
        self.grow(bytes)?;
        // SAFETY: the entry is mapped now, aligned because the base is page-aligned, and holds nothing yet.
        unsafe { self.entry(index).write(value) };
        self.len += 1;
        Ok(index)
    }
}

// SAFETY: the table owns its entries, as a Vec does.
unsafe impl<T: Send> Send for ReservedTable<T> {}
