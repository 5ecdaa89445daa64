//! What the loader tells. The only file that knows the Limine boot protocol.
//!
//! The responses lie in memory that is given back later, behind the loader's page tables; so everything is copied
//! out before the kernel's own are in force.

use crate::arch::apic::HIGHEST_ID;
use crate::mem::{DIRECT_MAP_BYTES, PAGE};
use core::ffi::CStr;
use heapless::{String, Vec};
use libpks::abi::{self, Name};
use libpks::args;
use limine::BaseRevision;
use limine::memory_map::EntryType;
use limine::paging::Mode;
use limine::request::{
    BootloaderInfoRequest, ExecutableAddressRequest, ExecutableFileRequest, HhdmRequest, MemoryMapRequest,
    ModuleRequest, MpRequest, PagingModeRequest, RequestsEndMarker, RequestsStartMarker, RsdpRequest,
    StackSizeRequest,
};

#[used]
#[unsafe(link_section = ".requests_start")]
static START: RequestsStartMarker = RequestsStartMarker::new();
/// Limine 8 knows revisions up to 2; the crate would ask for 3.
#[used]
#[unsafe(link_section = ".requests")]
static REVISION: BaseRevision = BaseRevision::with_revision(2);
#[used]
#[unsafe(link_section = ".requests")]
static STACK: StackSizeRequest = StackSizeRequest::new().with_size(64 * 1024);
#[used]
#[unsafe(link_section = ".requests")]
static HHDM: HhdmRequest = HhdmRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static MEMORY_MAP: MemoryMapRequest = MemoryMapRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static MODULES: ModuleRequest = ModuleRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static FILE: ExecutableFileRequest = ExecutableFileRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static RSDP: RsdpRequest = RsdpRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static MP: MpRequest = MpRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static LOADER: BootloaderInfoRequest = BootloaderInfoRequest::new();
#[used]
#[unsafe(link_section = ".requests")]
static PAGING: PagingModeRequest = PagingModeRequest::new()
    .with_mode(Mode::FIVE_LEVEL)
    .with_max_mode(Mode::FIVE_LEVEL)
    .with_min_mode(Mode::FOUR_LEVEL);
#[used]
#[unsafe(link_section = ".requests_end")]
static END: RequestsEndMarker = RequestsEndMarker::new();

/// CPUs that the kernel keeps books for. What is beyond is left parked, and the log says so.
pub(crate) const MAX_CPUS: usize = 64;

/// Modules that the kernel keeps books for.
pub(crate) const MAX_MODULES: usize = 64;

/// Memory below this is never used.
const LOWEST_FREE: u64 = 1 << 20;

/// A range of physical memory that the direct map covers, in whole pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ram {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    pub(crate) use_: RamUse,
}

/// What it is used for when the kernel starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RamUse {
    /// Free.
    Free,
    /// Free once bring-up is over: the loader's own.
    Loader,
    /// The kernel's image and the modules.
    Image,
}

/// A file that the loader brought.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub(crate) name: Name,
    pub(crate) physical: u64,
    pub(crate) bytes: u64,
}

/// A CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) apic_id: u32,
    /// Physical address of the loader's mailbox for it; 0 for the one that runs this.
    pub(crate) mailbox: u64,
}

/// Offset of the word in a mailbox whose writing starts the CPU.
pub(crate) const MAILBOX_ENTRY: u64 = 16;
/// Offset of the word that the CPU finds for itself.
pub(crate) const MAILBOX_EXTRA: u64 = core::mem::offset_of!(limine::mp::Cpu, extra) as u64;
const _: () = assert!(core::mem::offset_of!(limine::mp::Cpu, goto_address) as u64 == MAILBOX_ENTRY);

/// Everything that was told.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) ram: Vec<Ram, 128>,
    pub(crate) modules: Vec<Module, MAX_MODULES>,
    pub(crate) cpus: Vec<Cpu, MAX_CPUS>,
    pub(crate) cpus_left_out: usize,
    pub(crate) command_line: String<1024>,
    pub(crate) loader: Name,
    pub(crate) rsdp: Option<u64>,
    pub(crate) direct_map: u64,
    pub(crate) image_physical: u64,
    pub(crate) levels: u8,
}

impl Boot {
    /// The value that the command line gives a key; see [`args::value`].
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        args::value(&self.command_line, key)
    }
}

/// What the loader left out or does not speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("loader does not speak revision 2 of the Limine protocol")]
    Revision,
    #[error("loader did not answer the request for {0}")]
    NoAnswer(&'static str),
    #[error("memory map has more than 128 ranges of RAM")]
    MemoryMapTooLong,
}

fn text(bytes: &CStr) -> &str {
    bytes.to_str().unwrap_or("?")
}

/// Collects the answers.
///
/// # Errors
/// [`BootError`] if something is missing without which the kernel cannot run.
pub(crate) fn collect() -> Result<Boot, BootError> {
    if !REVISION.is_supported() {
        return Err(BootError::Revision);
    }
    let direct_map = HHDM.get_response().ok_or(BootError::NoAnswer("the direct map"))?.offset();
    let address = ADDRESS.get_response().ok_or(BootError::NoAnswer("the image's address"))?;
    let physical_of = |pointer: u64| pointer.wrapping_sub(if pointer >= direct_map { direct_map } else { 0 });
    let (cpus, cpus_left_out) = collect_cpus(physical_of);
    let mut modules = Vec::new();
    for file in MODULES.get_response().map(|response| response.modules()).unwrap_or_default() {
        let module = Module {
            name: abi::name(text(file.string())),
            physical: physical_of(file.addr() as u64),
            bytes: file.size(),
        };
        if modules.push(module).is_err() {
            log::warn!(target: "boot", "more than {} modules; the others are ignored", modules.capacity());
            break;
        }
    }
    Ok(Boot {
        ram: collect_ram()?,
        modules,
        cpus,
        cpus_left_out,
        command_line: FILE
            .get_response()
            .map(|file| shortened(text(file.file().string())))
            .unwrap_or_default(),
        loader: LOADER.get_response().map(loader_name).unwrap_or_default(),
        rsdp: RSDP.get_response().map(|response| physical_of(response.address() as u64)),
        direct_map,
        image_physical: address.physical_base(),
        levels: if PAGING.get_response().is_some_and(|mode| mode.mode() == Mode::FIVE_LEVEL) { 5 } else { 4 },
    })
}

fn loader_name(response: &limine::response::BootloaderInfoResponse) -> Name {
    let mut name = abi::name(response.name());
    for c in core::iter::once(' ').chain(response.version().chars()) {
        if name.push(c).is_err() {
            break;
        }
    }
    name
}

fn shortened(text: &str) -> String<1024> {
    let mut line = String::new();
    for c in text.chars() {
        if line.push(c).is_err() {
            log::warn!(target: "boot", "command line is longer than {} bytes and was cut", line.capacity());
            break;
        }
    }
    line
}

fn collect_ram() -> Result<Vec<Ram, 128>, BootError> {
    let map = MEMORY_MAP.get_response().ok_or(BootError::NoAnswer("the memory map"))?;
    let mut ram: Vec<Ram, 128> = Vec::new();
    for entry in map.entries() {
        let use_ = match entry.entry_type {
            EntryType::USABLE => RamUse::Free,
            EntryType::BOOTLOADER_RECLAIMABLE => RamUse::Loader,
            EntryType::EXECUTABLE_AND_MODULES => RamUse::Image,
            _ => continue,
        };
        let Some(range) = whole_pages(entry.base, entry.length, use_) else { continue };
        ram.push(range).map_err(|_| BootError::MemoryMapTooLong)?;
    }
    Ok(ram)
}

/// A range of the memory map in whole pages, if there is any that the direct map can hold: what is free loses pages
/// that it has only in part, and those below 1 MiB, which firmware and old devices use; the loader's own is freed
/// later and so loses them too (the protocol promises whole pages); the image keeps what it has.
fn whole_pages(base: u64, bytes: u64, use_: RamUse) -> Option<Ram> {
    let end = base.saturating_add(bytes).min(DIRECT_MAP_BYTES);
    let (base, end) = match use_ {
        RamUse::Free => (base.max(LOWEST_FREE).checked_next_multiple_of(PAGE)?, end / PAGE * PAGE),
        RamUse::Loader => (base.checked_next_multiple_of(PAGE)?, end / PAGE * PAGE),
        RamUse::Image => (base / PAGE * PAGE, end.next_multiple_of(PAGE)),
    };
    (base < end).then(|| Ram { base, bytes: end - base, use_ })
}

/// The CPUs, the one that runs this first.
fn collect_cpus(physical_of: impl Fn(u64) -> u64) -> (Vec<Cpu, MAX_CPUS>, usize) {
    let mut cpus = Vec::new();
    let Some(response) = MP.get_response() else {
        let _ = cpus.push(Cpu { apic_id: 0, mailbox: 0 });
        return (cpus, 0);
    };
    let _ = cpus.push(Cpu { apic_id: response.bsp_lapic_id(), mailbox: 0 });
    let mut left_out = 0;
    for cpu in response.cpus().iter().filter(|cpu| cpu.lapic_id != response.bsp_lapic_id()) {
        let mailbox = physical_of(core::ptr::from_ref(*cpu) as u64);
        let taken = cpu.lapic_id <= HIGHEST_ID && cpus.push(Cpu { apic_id: cpu.lapic_id, mailbox }).is_ok();
        left_out += usize::from(!taken);
    }
    (cpus, left_out)
}
