//! Physical memory as the loader holds it, what the CPU can do, and the clock.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use direct::memory_map::{Kind, MapError, MemoryMap, PAGE};
use direct::paging::{Levels, PagingFeatures};
use direct::physical::PhysicalMemory;
use direct::rtc::ClockRegisters;
use x86_64::instructions::port::Port;

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// The end of what `entry.s` maps.
const MAPPED_END: u64 = 1 << 32;
/// Where allocations are made: not in the firmware's neighbourhood, not beyond what is mapped.
const ALLOCATIONS: Range<u64> = 1 << 20..MAPPED_END;
/// Where a startup IPI can point to.
const REAL_MODE: Range<u64> = PAGE..0xa0000;

/// The physical addresses of the loader's own image.
pub(crate) fn image() -> Range<u64> {
    (&raw const image_start) as u64..(&raw const image_end) as u64
}

/// Physical memory that others filled in: the firmware, and QEMU.
pub(crate) struct Given;

impl PhysicalMemory for Given {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        let end = address.checked_add(len as u64)?;
        let own = image();
        if address == 0 || end > MAPPED_END || (address < own.end && own.start < end) {
            return None;
        }
        // SAFETY: `entry.s` maps everything below 4 GiB where it is, and the range is not null and
        // wraps nowhere. It holds bytes, for which every value is valid. It is outside of the
        // loader's image, hence no static nor stack; and it is none of `Memory`'s allocations, since
        // those come from memory that the map calls usable, and what callers read there (start
        // information, command line, bundle) they read before the first allocation or claim first.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, len) })
    }
}

/// The memory map with what the loader has taken of it.
pub(crate) struct Memory {
    /// The map, always up to date.
    pub(crate) map: MemoryMap,
}

impl Memory {
    /// The memory of `map`, of which the loader's image is already taken.
    ///
    /// # Errors
    /// [`MapError::TooManyRegions`].
    pub(crate) fn new(mut map: MemoryMap) -> Result<Self, MapError> {
        map.claim(image(), Kind::BootloaderReclaimable)?;
        Ok(Self { map })
    }

    /// Takes `size` bytes (rounded up to pages) aligned to `align` and clears them. The slice lies
    /// at its physical address.
    ///
    /// # Errors
    /// As [`MemoryMap::allocate`].
    pub(crate) fn allocate(
        &mut self,
        size: u64,
        align: u64,
        kind: Kind,
    ) -> Result<&'static mut [u8], MapError> {
        self.allocate_in(ALLOCATIONS, size, align, kind)
    }

    /// Takes a page that a CPU in real mode can begin in.
    ///
    /// # Errors
    /// As [`MemoryMap::allocate`].
    pub(crate) fn allocate_real_mode_page(&mut self) -> Result<&'static mut [u8], MapError> {
        self.allocate_in(REAL_MODE, PAGE, PAGE, Kind::BootloaderReclaimable)
    }

    fn allocate_in(
        &mut self,
        window: Range<u64>,
        size: u64,
        align: u64,
        kind: Kind,
    ) -> Result<&'static mut [u8], MapError> {
        let base = self.map.allocate(size, align, window, kind)?;
        let len = size.next_multiple_of(PAGE) as usize;
        // SAFETY: the map said that the range is usable memory, which excludes the loader's image
        // and page 0, and calls it otherwise from now on, so nobody else has it or gets it. It lies
        // within `window`, so below 4 GiB, which `entry.s` mapped writable. Any byte is valid.
        let memory = unsafe { core::slice::from_raw_parts_mut(base as *mut u8, len) };
        memory.fill(0);
        Ok(memory)
    }
}

/// What this CPU has for page tables (Intel SDM vol. 2A, CPUID).
pub(crate) fn paging_features() -> PagingFeatures {
    let five = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & 1 << 16 != 0;
    let extended = __cpuid(0x8000_0001).edx;
    let has_sizes = __cpuid(0x8000_0000).eax >= 0x8000_0008;
    PagingFeatures {
        levels: if five { Levels::Five } else { Levels::Four },
        gib_pages: extended & 1 << 26 != 0,
        no_execute: extended & 1 << 20 != 0,
        physical_bits: if has_sizes { __cpuid(0x8000_0008).eax & 0xff } else { 36 },
    }
}

/// The clock's registers, read twice the same while no update was going on; the last ones read if
/// the clock never comes to rest.
pub(crate) fn clock() -> ClockRegisters {
    let mut last = read_clock();
    for _ in 0..1000 {
        let before = core::mem::replace(&mut last, read_clock());
        if cmos(0x0a) & 0x80 == 0 && before == last {
            break;
        }
    }
    last
}

fn read_clock() -> ClockRegisters {
    ClockRegisters { fields: [0, 2, 4, 7, 8, 9].map(cmos), status_b: cmos(0x0b) }
}

fn cmos(register: u8) -> u8 {
    // SAFETY: reading a clock register by its index changes nothing but the index. Bit 7 of the
    // index keeps the NMI masked, which nothing here could handle.
    unsafe {
        Port::new(0x70).write(0x80 | register);
        Port::new(0x71).read()
    }
}
