//! Builds the kernel's own page tables, a root and a window for each CPU, and the frame allocator.

use super::direct::{set_base, words_mut};
use super::map::{MapError, Mapping, PageTables};
use super::paging::{ADDRESS, Table, index};
use super::{
    DEVICES, DIRECT_MAP, KERNEL_TABLES, KERNEL_TABLES_BYTES, MEMORY, Memory, PAGE, UNKEYED_TEST_PAGE,
    translations, vault,
};
use crate::arch::entry::{self, Sites};
use crate::arch::protection::Instructions;
use crate::arch::{gdt, insn, protection, record, window};
use crate::boot::{Boot, RamUse};
use libpks::abi::layout;
use libpks::frames::FrameBitmap;
use libpks::pkey::Pkey;

/// Frames below this are never used: firmware, the trampoline and ISA devices live there.
const LOWEST_FRAME: u64 = 0x100;
/// Bytes of address space under one entry of a level-4 table.
pub(super) const TOP_SPAN: u64 = 1 << 39;
/// Bytes of a large page.
const LARGE: u64 = 2 << 20;

/// Why memory could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BringupError {
    #[error("too little memory: no room for {0}")]
    TooLittle(&'static str),
    #[error("page tables: {0}")]
    Map(#[from] MapError),
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __init_start: u8;
    static __init_end: u8;
    static __vault_start: u8;
    static __vault_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __idt_end: u8;
    static __image_end: u8;
}

/// A range of the kernel's image and how it is mapped.
struct Section {
    from: u64,
    to: u64,
    mapping: Mapping,
}

/// The sections of the image. All of it carries the kernel's key, text too: instruction fetches are not checked, so
/// domains can pass the gates but read nothing. The IDT alone is out of PKRS's reach, because the CPU reads it under any
/// word. The vault's text writes registers without a check: here it cannot be executed (see [`vault`]).
fn sections() -> [Section; 6] {
    let at = |symbol: *const u8| symbol as u64;
    let section = |from, to, mapping| Section { from: at(from), to: at(to), mapping };
    [
        section(&raw const __text_start, &raw const __text_end, Mapping::text(Pkey::KERNEL)),
        section(&raw const __init_start, &raw const __init_end, Mapping::text(Pkey::KERNEL)),
        section(&raw const __vault_start, &raw const __vault_end, Mapping::constant(Pkey::KERNEL)),
        section(&raw const __rodata_start, &raw const __rodata_end, Mapping::constant(Pkey::KERNEL)),
        section(&raw const __data_start, &raw const __idt_end, Mapping::READ_UNDER_ANY_PKRS),
        section(&raw const __idt_end, &raw const __image_end, Mapping::data(Pkey::KERNEL)),
    ]
}

/// The text that stays: gates, entry code, everything that runs once bring-up is over.
pub(super) fn kernel_text() -> core::ops::Range<u64> {
    &raw const __text_start as u64..&raw const __text_end as u64
}

/// Physical addresses of the CPUs' root page tables.
pub(crate) type Roots = heapless::Vec<u64, { crate::boot::MAX_CPUS }>;

/// Takes over the memory: the frame allocator, the page tables of all CPUs. They are in force when a CPU loads its
/// root.
///
/// # Errors
/// [`BringupError`] if there is too little memory.
///
/// # Safety
/// Runs once, on the loader's page tables, with what the loader told.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn build(boot: &Boot) -> Result<Roots, BringupError> {
    // SAFETY: the loader maps all RAM there.
    unsafe { set_base(boot.direct_map) };
    let (mut frames, bitmap) = take_frames(boot)?;
    translations::start(&mut frames, boot.levels)
        .map_err(|_| BringupError::TooLittle("the log of translations"))?;
    let frames_total = frames.free_count();
    let mut memory = Memory {
        frames,
        tables: PageTables { root: Table(0), levels: boot.levels },
        frames_total,
        next_device: DEVICES,
        bitmap,
    };
    memory.tables.root = Table(memory.allocate_frame().map_err(|_| BringupError::TooLittle("a page table"))?);
    reserve_areas(&mut memory, boot)?;
    map_ram(&mut memory, boot)?;
    map_image(&mut memory, boot)?;
    let mut roots = Roots::new();
    let vault = boot.image_physical + (vault_start() - &raw const __image_start as u64);
    for (number, _) in boot.cpus.iter().enumerate() {
        let root = build_cpu(&mut memory, number as u64, vault)?;
        let _ = roots.push(root);
    }
    *MEMORY.lock() = Some(memory);
    Ok(roots)
}

/// Puts into the entry code and the text of SelfTest what reads and writes the rights word on this machine.
///
/// # Safety
/// Runs once, on the loader's page tables, before any trap and before any other CPU.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn fit_pkrs_accesses(boot: &Boot, instructions: Instructions) {
    // SAFETY: the loader maps all RAM there.
    unsafe { set_base(boot.direct_map) };
    let start = &raw const __image_start as u64;
    let replace = |site: u64, bytes: &[u8]| {
        for (n, byte) in bytes.iter().enumerate() {
            let physical = boot.image_physical + (site - start) + n as u64;
            super::copy_to_frame(physical / PAGE * PAGE, (physical % PAGE) as usize, &[*byte]);
        }
    };
    let Sites { writes, reads, numbers, vault_writes, vault_reads } = entry::pkrs_sites();
    let each = |sites: [&[u64]; 2], bytes: &[u8]| {
        sites.into_iter().flatten().for_each(|&site| replace(site, bytes));
    };
    each([writes, vault_writes], &instructions.write);
    each([reads, vault_reads], &instructions.read);
    each([numbers, &[]], &instructions.number.to_le_bytes());
}

/// After the bootstrap CPU has loaded its root: the direct map is the kernel's own from now on.
///
/// # Safety
/// The kernel's page tables are in force on the CPU that runs this, and no other runs.
#[unsafe(link_section = ".init.text")]
pub(crate) unsafe fn leave_loader_map() {
    // SAFETY: `map_ram` mapped all RAM there.
    unsafe { set_base(DIRECT_MAP) };
    super::with(|memory| {
        let (physical, words) = memory.bitmap;
        // SAFETY: the words were taken for the bitmap; what refers to them by their old address is dropped here.
        memory.frames = FrameBitmap::adopt(unsafe { words_mut(physical, words) });
    });
}

/// Puts the frame bitmap into the first range that holds it and frees what is free.
#[unsafe(link_section = ".init.text")]
fn take_frames(boot: &Boot) -> Result<(FrameBitmap<'static>, (u64, usize)), BringupError> {
    let end = boot.ram.iter().map(|ram| ram.base + ram.bytes).max().unwrap_or(0);
    let words = (end / PAGE).div_ceil(64);
    let bytes = (words * 8).next_multiple_of(PAGE);
    let home = boot
        .ram
        .iter()
        .find(|ram| ram.use_ == RamUse::Free && ram.bytes >= bytes)
        .ok_or(BringupError::TooLittle("the frame bitmap"))?;
    // SAFETY: the loader says that the range is free; it is never released below.
    let mut frames = FrameBitmap::new(unsafe { words_mut(home.base, words as usize) });
    for ram in boot.ram.iter().filter(|ram| ram.use_ == RamUse::Free) {
        let taken = if ram.base == home.base { bytes } else { 0 };
        let (from, to) = ((ram.base + taken) / PAGE, (ram.base + ram.bytes) / PAGE);
        if from < to {
            frames.release_range(from..to).expect("the bitmap reaches to the end of RAM");
        }
    }
    Ok((frames, (home.base, words as usize)))
}

/// Makes every top-level entry that there will ever be.
#[unsafe(link_section = ".init.text")]
fn reserve_areas(memory: &mut Memory, boot: &Boot) -> Result<(), BringupError> {
    let ram_end = boot.ram.iter().map(|ram| ram.base + ram.bytes).max().unwrap_or(0);
    let areas = [
        (DIRECT_MAP, ram_end),
        (layout::SLOTS_BASE, layout::SLOT_COUNT * layout::SLOT_BYTES),
        (layout::REGIONS_BASE, layout::REGIONS_BYTES),
        (KERNEL_TABLES, KERNEL_TABLES_BYTES),
        (DEVICES, TOP_SPAN),
        (layout::KERNEL_BASE, PAGE),
        (UNKEYED_TEST_PAGE, PAGE),
    ];
    for (base, bytes) in areas {
        for n in 0..bytes.div_ceil(TOP_SPAN) {
            with_frames(memory, |tables, frames| tables.reserve(base + n * TOP_SPAN, frames))?;
        }
    }
    Ok(())
}

/// Calls with the page tables and a source of frames.
fn with_frames<R>(
    memory: &mut Memory,
    work_fn: impl FnOnce(&mut PageTables, &mut dyn FnMut() -> Option<u64>) -> R,
) -> R {
    let frames = &mut memory.frames;
    work_fn(&mut memory.tables, &mut || super::take_frame(frames))
}

/// The direct map: large pages where they fit.
#[unsafe(link_section = ".init.text")]
fn map_ram(memory: &mut Memory, boot: &Boot) -> Result<(), BringupError> {
    for ram in &boot.ram {
        let end = ram.base + ram.bytes;
        let mut at = ram.base;
        while at < end {
            let large = at.is_multiple_of(LARGE) && at + LARGE <= end;
            let (level, step) = if large { (2, LARGE) } else { (1, PAGE) };
            let mapping = Mapping::data(Pkey::KERNEL);
            let mapped = with_frames(memory, |tables, frames| {
                tables.map_at_level(DIRECT_MAP + at, at, level, mapping, frames)
            });
            // Ranges that are not page-aligned may share a page; a large one then gives way to small ones.
            match mapped {
                Err(MapError::Taken) if large => {
                    for page in 0..LARGE / PAGE {
                        let small = at + page * PAGE;
                        let _ = with_frames(memory, |tables, frames| {
                            tables.map_at_level(DIRECT_MAP + small, small, 1, mapping, frames)
                        });
                    }
                }
                Ok(()) | Err(MapError::Taken) => {}
                Err(error) => return Err(error.into()),
            }
            at += step;
        }
    }
    Ok(())
}

/// The image at its address, and its text and constants read-only in the direct map too.
#[unsafe(link_section = ".init.text")]
fn map_image(memory: &mut Memory, boot: &Boot) -> Result<(), BringupError> {
    let start = &raw const __image_start as u64;
    for section in sections() {
        for at in (section.from..section.to).step_by(PAGE as usize) {
            let physical = boot.image_physical + (at - start);
            memory.map_page(at, physical, section.mapping)?;
            if !section.mapping.writable {
                memory.protect_direct(physical, false)?;
            }
        }
    }
    Ok(())
}

impl Memory {
    /// Makes a frame read-only or writable in the direct map, so that text has no writable alias. Gives the address
    /// that other CPUs must forget, or `None` if the frame was so already.
    ///
    /// # Errors
    /// [`MapError::NoFrames`] if a large page has to be split and there is no frame for the table.
    pub(crate) fn protect_direct(&mut self, physical: u64, writable: bool) -> Result<Option<u64>, MapError> {
        let address = DIRECT_MAP + physical;
        if self.tables.walk(address).is_none_or(|leaf| leaf.writable() == writable) {
            return Ok(None);
        }
        with_frames(self, |tables, frames| tables.split(address, frames))?;
        insn::invalidate_page(address);
        let mapping = if writable { Mapping::data(Pkey::KERNEL) } else { Mapping::constant(Pkey::KERNEL) };
        self.tables.protect(address, mapping);
        insn::invalidate_page(address);
        Ok(Some(address))
    }

    /// Takes the text of bring-up out of the address space.
    pub(crate) fn unmap_init(&mut self) {
        let (from, to) = (&raw const __init_start as u64, &raw const __init_end as u64);
        for at in (from..to).step_by(PAGE as usize) {
            self.tables.unmap(at);
        }
    }

    /// Frees what the loader used.
    ///
    /// # Safety
    /// Every CPU has left the loader's page tables, stacks and mailboxes, and `boot` holds copies only.
    pub(crate) unsafe fn reclaim_loader(&mut self, boot: &Boot) {
        for ram in boot.ram.iter().filter(|ram| ram.use_ == RamUse::Loader) {
            let from = (ram.base / PAGE).max(LOWEST_FRAME);
            let to = (ram.base + ram.bytes) / PAGE;
            if from < to {
                self.frames.release_range(from..to).expect("the bitmap reaches to the end of RAM");
                self.frames_total += to - from;
            }
        }
    }
}

/// A CPU's root: the shared entries, but an own path down to its window. The bootstrap CPU's is the shared root.
#[unsafe(link_section = ".init.text")]
fn build_cpu(memory: &mut Memory, number: u64, vault_text: u64) -> Result<u64, BringupError> {
    let shared = memory.tables.root;
    let root = if number == 0 { shared } else { own_path(memory, shared)? };
    memory.tables.root = root;
    let mapped = map_window(memory, number);
    let mapped = mapped
        .and_then(|()| Ok(memory.map_page(window::VAULT, vault_text, Mapping::constant(Pkey::KERNEL))?));
    vault::found(number as usize, memory.tables.table_of(window::VAULT));
    memory.tables.root = shared;
    mapped?;
    Ok(root.0)
}

/// Copies the tables on the way down to the window, from the root to level 3, without the window itself.
#[unsafe(link_section = ".init.text")]
fn own_path(memory: &mut Memory, shared: Table) -> Result<Table, BringupError> {
    let mut above: Option<Table> = None;
    let (mut from, mut root) = (shared, shared);
    for level in (3..=memory.tables.levels).rev() {
        let own = Table(memory.allocate_frame().map_err(|_| BringupError::TooLittle("a page table"))?);
        for n in 0..512 {
            own.set(n, from.get(n));
        }
        match above {
            None => root = own,
            Some(table) => table.set(index(window::BASE, level + 1), super::paging::table_entry(own, true)),
        }
        above = Some(own);
        if level == 3 {
            own.set(index(window::BASE, 3), 0);
        } else {
            from = Table(from.get(index(window::BASE, level)) & ADDRESS);
        }
    }
    Ok(root)
}

/// Maps the window into the root that is set, with fresh frames.
#[unsafe(link_section = ".init.text")]
fn map_window(memory: &mut Memory, number: u64) -> Result<(), BringupError> {
    let frame =
        |memory: &mut Memory| memory.allocate_frame().map_err(|_| BringupError::TooLittle("a CPU window"));
    let constants = frame(memory)?;
    memory.map_page(window::CONSTANTS, constants, Mapping::READ_UNDER_ANY_PKRS)?;
    memory.map_page(window::CONSTANTS_ALIAS, constants, Mapping::data(Pkey::KERNEL))?;
    let words = window::initial_constants(number, protection::in_force().kernel_value(memory.tables.root.0));
    for (n, word) in words.into_iter().enumerate() {
        super::direct::write_word(constants + n as u64 * 8, word);
    }
    let per_cpu = frame(memory)?;
    memory.map_page(window::PER_CPU, per_cpu, Mapping::data(Pkey::KERNEL))?;
    // DEPTH is 1 until the CPU enters its first domain.
    super::direct::write_word(per_cpu, 1);
    let slots = frame(memory)?;
    memory.map_page(window::SLOTS, slots, Mapping::WRITTEN_UNDER_ANY_PKRS)?;
    for slot in 1..=6 {
        super::direct::write_word(slots + slot * window::SLOT_BYTES - 48, record::NO_ERROR_CODE);
    }
    // Writable until LTR has marked the TSS busy (`seal_tables`).
    let tables = frame(memory)?;
    memory.map_page(window::TABLES, tables, Mapping::WRITTEN_UNDER_ANY_PKRS)?;
    super::copy_to_frame(tables, 0, &gdt::build());
    for stack in window::stacks() {
        for at in (stack.bottom..stack.top).step_by(PAGE as usize) {
            let physical = frame(memory)?;
            memory.map_page(at, physical, Mapping::data(Pkey::KERNEL))?;
        }
    }
    Ok(())
}

/// Makes this CPU forget the text of bring-up.
pub(crate) fn forget_init() {
    let (from, to) = (&raw const __init_start as u64, &raw const __init_end as u64);
    (from..to).step_by(PAGE as usize).for_each(insn::invalidate_page);
}

/// Makes GDT and TSS of the CPU with this root read-only.
pub(crate) fn seal_tables(root: u64) {
    super::with(|memory| {
        let shared = core::mem::replace(&mut memory.tables.root, Table(root));
        memory.tables.protect(window::TABLES, Mapping::READ_UNDER_ANY_PKRS);
        memory.tables.root = shared;
    });
    insn::invalidate_page(window::TABLES);
}

/// Where the vault's text was linked.
pub(super) fn vault_start() -> u64 {
    &raw const __vault_start as u64
}
