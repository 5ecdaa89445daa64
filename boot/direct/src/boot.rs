//! The way from QEMU's start information to the kernel's entry point, step by step.

use crate::handoff::{self, Destination};
use crate::machine::{self, Given, Memory};
use crate::{console, interrupts, processors};
use core::convert::Infallible;
use core::ffi::CStr;
use direct::acpi::Madt;
use direct::kernel_image::{ImageError, KernelImage};
use direct::limine;
use direct::limine::requests::{RequestError, Requests};
use direct::memory_map::{Kind, MapError, MemoryMap, PAGE};
use direct::paging::{self, Levels, PageTables, PagingError, PagingFeatures};
use direct::physical::PhysicalMemory;
use direct::pvh::{PvhError, StartInfo};
use direct::responses::{ARENA_SIZE, Answers, Arena, FileParts, ResponseError, paging_wish};
use libpks::bundle::{Bundle, BundleError, Member};

/// Why the kernel is not booted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// QEMU's start information is of no use.
    #[error(transparent)]
    Pvh(#[from] PvhError),
    /// There is too little memory, or too many parts of it.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The bundle does not lie in memory where the map has it.
    #[error("the bundle at {0:#x} lies outside of usable memory, or at no page's beginning")]
    BundlePlace(u64),
    /// The bundle is malformed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The kernel file is malformed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The kernel's requests are malformed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The kernel's requests cannot be answered.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// There can be no page tables as the kernel wants them.
    #[error(transparent)]
    Paging(#[from] PagingError),
    /// The MADT names more CPUs than 8-bit APIC numbers.
    #[error("the MADT names too many CPUs")]
    TooManyProcessors,
}

/// What QEMU gave, read and safe from the loader's allocations.
struct Received {
    memory: Memory,
    bundle: Bundle<'static>,
    command_line: &'static CStr,
    rsdp: u64,
}

/// The kernel in memory, on page tables that nobody uses yet.
struct Loaded {
    kernel: KernelImage<'static>,
    requests: Requests<'static>,
    physical: u64,
    levels: Levels,
    features: PagingFeatures,
    root: u64,
}

/// Boots the kernel in the bundle that the start information at physical address `start_info` names.
///
/// # Errors
/// The first thing that is wrong, as [`BootError`] says.
pub(crate) fn boot(start_info: u64) -> Result<Infallible, BootError> {
    let mut received = take_over(start_info)?;
    let Loaded { kernel, requests, physical, levels, features, root } = load(&mut received)?;
    let direct_map = levels.higher_half();

    let mut answers = Answers::new(requests, arena(&mut received, direct_map)?);
    answers.numbers(limine::PAGING_MODE, [levels.mode()])?;
    answers.numbers(limine::EXECUTABLE_ADDRESS, [physical, kernel.pages().start])?;
    answer_what_is_known(&mut answers, &received, direct_map)?;

    let memory = &mut received.memory;
    let entry = answers.entry_point(kernel.entry())?;
    kernel.check_entry(entry)?;
    let stack_size = answers.stack_size()?;
    let stack = memory.allocate(stack_size, PAGE, Kind::BootloaderReclaimable)?;
    let stack_top = direct_map + stack.as_ptr_range().end as u64;
    let prepared = handoff::prepare(root, levels, features, &Destination { entry, stack_top });

    let madt = Madt::find(&Given, received.rsdp);
    interrupts::mask_all(madt.as_ref());
    let mut cpus = 1;
    if let Some(madt) = madt.filter(|_| answers.wants_processors()) {
        cpus = processors::start(memory, &mut answers, &madt, stack_size, direct_map, &prepared)?;
    }
    answers.memory_map(&memory.map)?;
    let (modules, levels) = (received.bundle.modules().len(), levels.mode() + 4);
    console::line(format_args!(
        "kernel at {physical:#x}, {modules} modules, {cpus} CPUs, {levels} levels of paging"
    ));
    handoff::leave(prepared)
}

/// Reads everything that QEMU left in memory, and claims what the kernel is to find there.
fn take_over(start_info: u64) -> Result<Received, BootError> {
    let start = StartInfo::read(&Given, start_info)?;
    let StartInfo { bundle: place, command_line, command_line_at: text, rsdp, .. } = start;
    let mut map = MemoryMap::new(start.memory_map())?;
    let range = place.address..place.address + place.len;
    if !map.is_usable(range.clone()) || !place.address.is_multiple_of(PAGE) {
        return Err(BootError::BundlePlace(place.address));
    }
    map.claim(range, Kind::ExecutableAndModules)?;
    map.claim(text.address..text.address + text.len, Kind::BootloaderReclaimable)?;
    let file = Given.bytes(place.address, place.len as usize).ok_or(BootError::BundlePlace(place.address))?;
    Ok(Received { memory: Memory::new(map)?, bundle: Bundle::parse(file)?, command_line, rsdp })
}

/// Loads the kernel, finds its requests, and builds page tables as it wants them.
fn load(received: &mut Received) -> Result<Loaded, BootError> {
    let Received { memory, bundle, .. } = received;
    let kernel = KernelImage::parse(bundle.kernel().data)?;
    let pages = kernel.pages();
    let image = memory.allocate(pages.end - pages.start, kernel.align(), Kind::ExecutableAndModules)?;
    let physical = image.as_ptr() as u64;
    let filled = kernel.load(image);
    let requests = Requests::find(image, filled)?;
    let features = machine::paging_features();
    let levels = paging::choose_levels(paging_wish(&requests)?, features.levels)?;
    let root = build_page_tables(memory, &kernel, physical, levels, features)?;
    Ok(Loaded { kernel, requests, physical, levels, features, root })
}

/// Memory for the responses, which the kernel sees in the direct map.
fn arena(received: &mut Received, direct_map: u64) -> Result<Arena<'static>, BootError> {
    let size = ARENA_SIZE + received.command_line.count_bytes();
    let place = received.memory.allocate(size as u64, PAGE, Kind::BootloaderReclaimable)?;
    let address = direct_map + place.as_ptr() as u64;
    Ok(Arena::new(place, address))
}

/// Answers what depends on nothing but what was received and where the direct map is.
fn answer_what_is_known(
    answers: &mut Answers<'_>,
    received: &Received,
    direct_map: u64,
) -> Result<(), BootError> {
    let bundle = &received.bundle;
    answers.loader()?;
    answers.numbers(limine::HHDM, [direct_map])?;
    if let Some(seconds) = machine::clock().unix_time() {
        answers.numbers(limine::DATE_AT_BOOT, [seconds as u64])?;
    }
    if received.rsdp != 0 {
        answers.numbers(limine::RSDP, [direct_map + received.rsdp])?;
    }
    answers.executable_file(file_parts(&bundle.kernel(), direct_map), received.command_line)?;
    answers.modules(bundle.modules().map(|module| file_parts(&module, direct_map)))?;
    Ok(())
}

/// Builds the tables that the kernel starts on, and returns the physical address of the first.
fn build_page_tables(
    memory: &mut Memory,
    kernel: &KernelImage<'_>,
    physical: u64,
    levels: Levels,
    features: PagingFeatures,
) -> Result<u64, BootError> {
    let top = memory.map.mapped_above_4_gib().map(|range| range.end).fold(1 << 32, u64::max);
    paging::check_top(top.next_multiple_of(1 << 30), levels, features)?;
    let pages = kernel.pages();
    let size = PageTables::size_needed(top, pages.end - pages.start, features);
    let place = memory.allocate(size, PAGE, Kind::BootloaderReclaimable)?;
    let address = place.as_ptr() as u64;
    let mut tables = PageTables::new(place, address, levels, features)?;
    tables.map_direct(0, 1 << 32)?;
    for range in memory.map.mapped_above_4_gib() {
        tables.map_direct(range.start, range.end)?;
    }
    for segment in kernel.segments() {
        tables.map_segment(segment, pages.start, physical)?;
    }
    tables.alias_lower_half();
    Ok(tables.root())
}

/// A member's file as the kernel sees it: in place, in the direct map.
fn file_parts(member: &Member<'_>, direct_map: u64) -> FileParts {
    let seen = |text: &CStr| direct_map + text.as_ptr() as u64;
    FileParts {
        address: direct_map + member.data.as_ptr() as u64,
        size: member.data.len() as u64,
        path: seen(member.path),
        string: seen(member.string),
    }
}
