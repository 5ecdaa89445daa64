//! The page tables that the kernel starts on, with 4 or 5 levels (Intel SDM vol. 3A chapter 4).

use crate::kernel_image::Segment;
use crate::memory_map::PAGE;
use zerocopy::FromBytes;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const GIB: u64 = 1 << 30;
const MIB2: u64 = 2 << 20;

/// One page table.
pub type Table = [u64; 512];

/// How many levels the page tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Levels {
    /// 48-bit addresses.
    Four,
    /// 57-bit addresses.
    Five,
}

impl Levels {
    /// Where the higher half, and with it the direct map, begins.
    #[must_use]
    pub fn higher_half(self) -> u64 {
        match self {
            Self::Four => 0xffff_8000_0000_0000,
            Self::Five => 0xff00_0000_0000_0000,
        }
    }

    /// The number of the mode in the Limine protocol.
    #[must_use]
    pub fn mode(self) -> u64 {
        match self {
            Self::Four => 0,
            Self::Five => 1,
        }
    }

    /// The shift of the virtual address that indexes the top-level table.
    fn top_shift(self) -> u32 {
        match self {
            Self::Four => 39,
            Self::Five => 48,
        }
    }
}

/// What a CPU can do that concerns page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagingFeatures {
    /// The most levels.
    pub levels: Levels,
    /// Whether there are pages of 1 GiB.
    pub gib_pages: bool,
    /// Whether pages can be barred from execution.
    pub no_execute: bool,
    /// The number of physical address bits.
    pub physical_bits: u32,
}

/// What a kernel asks of the paging mode, in the protocol's numbers (0: four levels, 1: five).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagingWish {
    /// What it would like best.
    pub preferred: u64,
    /// The most that it can do with.
    pub max: u64,
    /// The least that it can do with.
    pub min: u64,
}

/// Why there can be no page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagingError {
    /// The request contradicts itself.
    #[error("the kernel's highest paging mode {max} is below its lowest, {min}")]
    EmptyRange {
        /// The highest mode that it accepts.
        max: u64,
        /// The lowest mode that it accepts.
        min: u64,
    },
    /// The CPU cannot do what the kernel needs.
    #[error("the kernel needs paging mode {0} (1 is 5 levels), which this CPU does not have")]
    TooFewLevels(u64),
    /// The memory's end is beyond the direct map or what the CPU can address.
    #[error("memory up to {0:#x} is more than this CPU can map")]
    TooMuchMemory(u64),
    /// The memory that was set aside for tables is used up.
    #[error("no memory left for page tables")]
    NoTables,
}

/// Chooses the number of levels: the preferred one, moved into what the CPU has, then into what the
/// kernel accepts. Without a wish it is 4 levels.
///
/// # Errors
/// [`PagingError::EmptyRange`], [`PagingError::TooFewLevels`].
pub fn choose_levels(wish: Option<PagingWish>, most: Levels) -> Result<Levels, PagingError> {
    let wish = wish.unwrap_or(PagingWish { preferred: 0, max: 0, min: 0 });
    if wish.max < wish.min {
        return Err(PagingError::EmptyRange { max: wish.max, min: wish.min });
    }
    let mode = wish.preferred.min(most.mode()).clamp(wish.min, wish.max);
    match mode {
        0 => Ok(Levels::Four),
        1 if most == Levels::Five => Ok(Levels::Five),
        other => Err(PagingError::TooFewLevels(other)),
    }
}

/// Page tables under construction, in one piece of memory.
pub struct PageTables<'m> {
    tables: &'m mut [Table],
    used: usize,
    address: u64,
    levels: Levels,
    features: PagingFeatures,
}

impl<'m> PageTables<'m> {
    /// The length in bytes of memory that certainly suffices for a direct map of memory up to `top`
    /// and an image of `image` bytes.
    #[must_use]
    pub fn size_needed(top: u64, image: u64, features: PagingFeatures) -> u64 {
        let of_direct_map = top / (512 * GIB) + if features.gib_pages { 0 } else { top / GIB };
        // At most 2 each of the levels above the image's lowest; the rest is the same for both.
        (of_direct_map + image / MIB2 + 16) * PAGE
    }

    /// Tables that map nothing, in `memory`, which begins at physical address `address`; both are
    /// aligned to pages, and the bytes are all 0.
    ///
    /// # Errors
    /// [`PagingError::NoTables`] if `memory` has no room for the top-level table.
    pub fn new(
        memory: &'m mut [u8],
        address: u64,
        levels: Levels,
        features: PagingFeatures,
    ) -> Result<Self, PagingError> {
        let (tables, _) = <[Table]>::mut_from_prefix_with_elems(memory, memory.len() / size_of::<Table>())
            .map_err(|_| PagingError::NoTables)?;
        let mut new = Self { tables, used: 0, address, levels, features };
        new.allocate()?;
        Ok(new)
    }

    /// The physical address of the top-level table.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.address
    }

    /// Maps physical memory from `start` to `end`, both moved outward to multiples of 1 GiB, at the
    /// beginning of the higher half: readable, writable and executable, as the protocol has it.
    ///
    /// # Errors
    /// [`PagingError::NoTables`].
    pub fn map_direct(&mut self, start: u64, end: u64) -> Result<(), PagingError> {
        let offset = self.levels.higher_half();
        let size = if self.features.gib_pages { GIB } else { MIB2 };
        for physical in (start & !(GIB - 1)..end.next_multiple_of(GIB)).step_by(size as usize) {
            self.map(offset + physical, physical, size, WRITABLE)?;
        }
        Ok(())
    }

    /// Maps a segment of the kernel whose image's pages begin at virtual address `image` and at
    /// physical address `physical`, with the segment's permissions.
    ///
    /// # Errors
    /// [`PagingError::NoTables`].
    pub fn map_segment(
        &mut self,
        segment: &Segment<'_>,
        image: u64,
        physical: u64,
    ) -> Result<(), PagingError> {
        let no_execute = !segment.execute && self.features.no_execute;
        let flags = if segment.write { WRITABLE } else { 0 } | if no_execute { NO_EXECUTE } else { 0 };
        for page in segment.pages().step_by(PAGE as usize) {
            self.map(page, physical + (page - image), PAGE, flags)?;
        }
        Ok(())
    }

    /// Makes the direct map's beginning appear at address 0 too, for the switch to these tables.
    /// Whoever is on them can drop it by clearing the first entry of the top-level table.
    pub fn alias_lower_half(&mut self) {
        self.tables[0][0] = self.tables[0][256];
    }

    fn map(&mut self, virtual_address: u64, physical: u64, size: u64, flags: u64) -> Result<(), PagingError> {
        let mut table = 0;
        let mut shift = self.levels.top_shift();
        while 1 << shift > size {
            let entry = self.tables[table][index(virtual_address, shift)];
            if entry & PRESENT == 0 {
                let new = self.allocate()?;
                let entry = self.address + new as u64 * PAGE;
                self.tables[table][index(virtual_address, shift)] = entry | PRESENT | WRITABLE;
                table = new;
            } else {
                table = ((entry & ADDRESS) - self.address) as usize / size_of::<Table>();
            }
            shift -= 9;
        }
        let large = if size > PAGE { LARGE } else { 0 };
        self.tables[table][index(virtual_address, shift)] = physical | flags | large | PRESENT;
        Ok(())
    }

    /// The number of a table that is all zero.
    fn allocate(&mut self) -> Result<usize, PagingError> {
        let new = self.used;
        if new == self.tables.len() {
            return Err(PagingError::NoTables);
        }
        self.used += 1;
        Ok(new)
    }
}

fn index(virtual_address: u64, shift: u32) -> usize {
    (virtual_address >> shift) as usize & 511
}

/// Checks that memory up to `top` fits the direct map of `levels` and the CPU's addresses.
///
/// # Errors
/// [`PagingError::TooMuchMemory`].
pub fn check_top(top: u64, levels: Levels, features: PagingFeatures) -> Result<(), PagingError> {
    // A quarter of the address space: half of the higher half, so that the kernel's part stays free.
    let room = match levels {
        Levels::Four => 1 << 46,
        Levels::Five => 1 << 55,
    };
    let addressable = 1u64.checked_shl(features.physical_bits).unwrap_or(u64::MAX);
    if top > room || top > addressable { Err(PagingError::TooMuchMemory(top)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
