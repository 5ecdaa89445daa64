//! The answers to the kernel's requests, in the order in which they become known.

use crate::acpi::Processor;
use crate::limine::requests::{RequestError, Requests};
use crate::limine::{self, File, MemoryMapEntry, MpInfo, MpResponse, RequestId};
use crate::memory_map::{MAX_REGIONS, MemoryMap};
use crate::paging::PagingWish;
use core::ffi::CStr;
use heapless::Vec;
use libpks::bundle::MAX_MEMBERS;
use zerocopy::{Immutable, IntoBytes};

/// The most CPUs: as many as an APIC number of 8 bits can tell apart.
pub const MAX_CPUS: usize = 256;
/// The stack size in bytes that a kernel gets if it does not ask for more.
pub const MIN_STACK: u64 = 64 * 1024;
/// The size in bytes of an arena in which every response finds room: the lists that vary, at
/// their longest, and a page for the rest. The command line is not in it.
pub const ARENA_SIZE: usize = MAX_MEMBERS * (size_of::<File>() + 8)
    + MAX_CPUS * (size_of::<MpInfo>() + 8)
    + MAX_REGIONS * (size_of::<MemoryMapEntry>() + 8)
    + 4096;

/// The loader's name in the bootloader information.
const NAME: &CStr = c"direct";
/// Its version there.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// Why a request cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// A request is malformed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The arena is too small.
    #[error("no room for another response")]
    ArenaFull,
}

/// Memory for responses, filled from its beginning.
pub struct Arena<'a> {
    memory: &'a mut [u8],
    used: usize,
    address: u64,
}

impl<'a> Arena<'a> {
    /// An empty arena in `memory`, which the kernel will see at virtual address `address`, a
    /// multiple of 8.
    pub fn new(memory: &'a mut [u8], address: u64) -> Self {
        Self { memory, used: 0, address }
    }

    /// Copies `value` into the arena and returns the virtual address of the copy, a multiple of 8.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, value: &T) -> Result<u64, ResponseError> {
        let bytes = value.as_bytes();
        let start = self.used;
        let place = self.memory.get_mut(start..start + bytes.len()).ok_or(ResponseError::ArenaFull)?;
        place.copy_from_slice(bytes);
        self.used = (start + bytes.len()).next_multiple_of(8);
        Ok(self.address + start as u64)
    }
}

/// What a file is known by, as virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileParts {
    /// The address of its first byte.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The address of its path.
    pub path: u64,
    /// The address of its string.
    pub string: u64,
}

/// The requests on their way to being answered. Requests that are not made cost nothing, and what
/// this loader has no answer to (framebuffer, SMBIOS, EFI, device tree) stays unanswered, as the
/// protocol wants it.
pub struct Answers<'a> {
    requests: Requests<'a>,
    arena: Arena<'a>,
}

impl<'a> Answers<'a> {
    /// Begins to answer `requests` with responses in `arena`.
    pub fn new(requests: Requests<'a>, arena: Arena<'a>) -> Self {
        Self { requests, arena }
    }

    /// Bootloader information and firmware type (a BIOS), which are always the same.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn loader(&mut self) -> Result<(), ResponseError> {
        let name = self.arena.put(NAME.to_bytes_with_nul())?;
        let version = self.arena.put(VERSION.as_bytes())?;
        self.numbers(limine::BOOTLOADER_INFO, [name, version])?;
        self.numbers(limine::FIRMWARE_TYPE, [0])
    }

    /// Answers a request whose response is a few numbers.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn numbers<const N: usize>(&mut self, id: RequestId, fields: [u64; N]) -> Result<(), ResponseError> {
        if self.requests.contains(id) {
            // The revision and, adjoining it, the fields.
            let response = self.arena.put(&0u64)?;
            self.arena.put(&fields)?;
            self.requests.respond(id, response);
        }
        Ok(())
    }

    /// The stack size in bytes for each CPU, a multiple of 16.
    ///
    /// # Errors
    /// As [`ResponseError`] says.
    pub fn stack_size(&mut self) -> Result<u64, ResponseError> {
        let wanted = self.requests.field(limine::STACK_SIZE, 0)?.unwrap_or(0);
        self.numbers(limine::STACK_SIZE, [])?;
        Ok(wanted.max(MIN_STACK).checked_next_multiple_of(16).unwrap_or(!15))
    }

    /// The kernel's entry point: `entry`, unless it requests another.
    ///
    /// # Errors
    /// As [`ResponseError`] says.
    pub fn entry_point(&mut self, entry: u64) -> Result<u64, ResponseError> {
        let wanted = self.requests.field(limine::ENTRY_POINT, 0)?;
        self.numbers(limine::ENTRY_POINT, [])?;
        Ok(wanted.unwrap_or(entry))
    }

    /// The kernel's file, whose string is the command line. The text is copied: firmware may keep it
    /// in memory that a kernel does not look into.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn executable_file(&mut self, parts: FileParts, command_line: &CStr) -> Result<(), ResponseError> {
        let string = self.arena.put(command_line.to_bytes_with_nul())?;
        let file = self.file(FileParts { string, ..parts })?;
        self.numbers(limine::EXECUTABLE_FILE, [file])
    }

    /// The modules. Without any the request stays unanswered.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`], also for more modules than a bundle can have.
    pub fn modules(&mut self, modules: impl Iterator<Item = FileParts>) -> Result<(), ResponseError> {
        let mut list: Vec<u64, MAX_MEMBERS> = Vec::new();
        for module in modules {
            let file = self.file(module)?;
            list.push(file).map_err(|_| ResponseError::ArenaFull)?;
        }
        if list.is_empty() { Ok(()) } else { self.list(limine::MODULES, &list) }
    }

    /// Whether the kernel wants the other CPUs started.
    #[must_use]
    pub fn wants_processors(&self) -> bool {
        self.requests.contains(limine::MULTIPROCESSOR)
    }

    /// The record of one CPU, at the virtual address that is returned; its `goto_address` is 0.
    /// `stack_top` is the virtual address of its stack's end, 0 for the bootstrap processor.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn processor(&mut self, processor: Processor, stack_top: u64) -> Result<u64, ResponseError> {
        let (processor_id, lapic_id) = (processor.uid, processor.apic_id.into());
        self.arena.put(&MpInfo { processor_id, lapic_id, stack_top, ..MpInfo::default() })
    }

    /// The CPUs that run, by the addresses of their records.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn processors(&mut self, bootstrap: u8, records: &[u64]) -> Result<(), ResponseError> {
        let cpus = self.arena.put(records)?;
        let response = MpResponse {
            revision: 0,
            flags: 0,
            bsp_lapic_id: bootstrap.into(),
            cpu_count: records.len() as u64,
            cpus,
        };
        let response = self.arena.put(&response)?;
        self.requests.respond(limine::MULTIPROCESSOR, response);
        Ok(())
    }

    /// The memory map. It must be the last answer that needs memory of its own.
    ///
    /// # Errors
    /// [`ResponseError::ArenaFull`].
    pub fn memory_map(&mut self, map: &MemoryMap) -> Result<(), ResponseError> {
        let mut list: Vec<u64, MAX_REGIONS> = Vec::new();
        for region in map.regions() {
            let length = region.end - region.start;
            let entry = MemoryMapEntry { base: region.start, length, kind: region.kind as u64 };
            let entry = self.arena.put(&entry)?;
            list.push(entry).map_err(|_| ResponseError::ArenaFull)?;
        }
        self.list(limine::MEMORY_MAP, &list)
    }

    fn file(&mut self, parts: FileParts) -> Result<u64, ResponseError> {
        let FileParts { address, size, path, string } = parts;
        self.arena.put(&File { address, size, path, string, ..File::default() })
    }

    fn list(&mut self, id: RequestId, addresses: &[u64]) -> Result<(), ResponseError> {
        let list = self.arena.put(addresses)?;
        self.numbers(id, [addresses.len() as u64, list])
    }
}

/// What the kernel asks of the paging mode. Requests of revision 0 give only the preferred mode,
/// which then is the highest too.
///
/// # Errors
/// [`RequestError::CutOff`].
pub fn paging_wish(requests: &Requests<'_>) -> Result<Option<PagingWish>, RequestError> {
    let Some(preferred) = requests.field(limine::PAGING_MODE, 0)? else { return Ok(None) };
    if requests.revision(limine::PAGING_MODE) == Some(0) {
        return Ok(Some(PagingWish { preferred, max: preferred, min: 0 }));
    }
    let field = |number| Ok(requests.field(limine::PAGING_MODE, number)?.unwrap_or(0));
    Ok(Some(PagingWish { preferred, max: field(1)?, min: field(2)? }))
}

#[cfg(test)]
mod tests;
