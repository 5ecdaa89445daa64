//! An image that passed the check.
#![forbid(unsafe_code)]

use core::ops::Range;

use heapless::Vec;

use super::dynamic::{self, Relocations};
use super::note::read_notes;
use super::read::{once, range, u16_at, u32_at, u64_at};
use super::segment::{
    HEADER_SIZE, Header, PF_X, PT_DYNAMIC, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS,
    Segment,
};
use super::{ElfError, MAX_HEADERS, MAX_SEGMENTS, PAGE, Protection};

/// The first bytes of the file: magic number, 64 bits, little-endian, version 1.
const MAGIC: &[u8] = b"\x7fELF";
const IDENT: &[u8] = &[2, 1, 1];
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const EV_CURRENT: u32 = 1;

/// A server image in memory, checked.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    segments: Vec<Segment<'a>, MAX_SEGMENTS>,
    entry: u64,
    relro: Option<Range<u64>>,
    relocations: &'a [u8],
    abi_version: u32,
}

/// What the program headers tell beside the segments.
#[derive(Default)]
struct Extras {
    dynamic: Option<Header>,
    relro: Option<Header>,
    abi_version: Option<u32>,
}

impl<'a> Image<'a> {
    /// Checks `file` from the first to the last byte that matters.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        let entry = check_header(file)?;
        let mut segments = Vec::new();
        let mut extras = Extras::default();
        for (index, header) in (0..).zip(headers(file)?) {
            let header = header.ok_or(ElfError::Truncated("the program headers"))?;
            match header.kind {
                PT_LOAD if header.memory_size == 0 && header.file_size == 0 => {}
                PT_LOAD => add_segment(&mut segments, Segment::new(file, &header, index)?, index)?,
                _ => extras.add(file, &header)?,
            }
        }
        let span = segments.last().ok_or(ElfError::NoSegments)?.end();
        if !segments.iter().any(|segment| is_code(segment, entry)) {
            return Err(ElfError::Entry);
        }
        let dynamic = extras.dynamic.ok_or(ElfError::NoDynamic)?;
        let dynamic = segments
            .iter()
            .find_map(|segment| segment.bytes(dynamic.vaddr, dynamic.file_size))
            .ok_or(ElfError::Truncated("the dynamic section"))?;
        let relocations = dynamic::relocation_table(dynamic, &segments)?;
        dynamic::check(relocations, &segments, span)?;
        let relro = extras.relro.map(|header| relro_pages(&segments, &header)).transpose()?;
        let abi_version = extras.abi_version.ok_or(ElfError::NoAbiNote)?;
        Ok(Self { segments, entry, relro, relocations, abi_version })
    }

    /// What has to be loaded, by address.
    #[must_use]
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// What has to be written after loading.
    #[must_use]
    pub fn relocations(&self) -> Relocations<'a> {
        Relocations::new(self.relocations)
    }

    /// Whole pages of a writable segment that become read-only after relocation.
    #[must_use]
    pub fn relro(&self) -> Option<Range<u64>> {
        self.relro.clone()
    }

    /// How the page at `vaddr` is mapped after relocation; `None` for a gap.
    #[must_use]
    pub fn protection(&self, vaddr: u64) -> Option<Protection> {
        let segment = self.segments.iter().find(|s| (s.vaddr..s.page_end()).contains(&vaddr))?;
        let sealed = self.relro.as_ref().is_some_and(|relro| relro.contains(&vaddr));
        Some(if sealed { Protection::ReadOnly } else { segment.protection })
    }

    /// Where it starts to run.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// The version of the ABI that it was built for.
    #[must_use]
    pub const fn abi_version(&self) -> u32 {
        self.abi_version
    }

    /// The address after its last page: how much address space it takes from 0 on.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.segments.last().map_or(0, Segment::page_end)
    }
}

impl Extras {
    /// Takes note of a program header that is not PT_LOAD.
    fn add(&mut self, file: &[u8], header: &Header) -> Result<(), ElfError> {
        match header.kind {
            PT_DYNAMIC => once(&mut self.dynamic, *header, "PT_DYNAMIC"),
            PT_GNU_RELRO => once(&mut self.relro, *header, "PT_GNU_RELRO"),
            PT_NOTE => {
                let notes = range(file, header.offset, header.file_size);
                let notes = notes.ok_or(ElfError::Truncated("the notes"))?;
                read_notes(notes, header.align, &mut self.abi_version)
            }
            PT_INTERP => Err(ElfError::Interpreter),
            PT_TLS => Err(ElfError::ThreadLocal),
            PT_GNU_STACK if header.flags & PF_X != 0 => Err(ElfError::ExecutableStack),
            _ => Ok(()),
        }
    }
}

/// Checks the file header; gives the entry point.
fn check_header(file: &[u8]) -> Result<u64, ElfError> {
    let rest = file.strip_prefix(MAGIC).ok_or(ElfError::NotElf)?;
    let truncated = ElfError::Truncated("the file header");
    let kind = u16_at(file, 16).ok_or(truncated)?;
    let machine = u16_at(file, 18).ok_or(truncated)?;
    let version = u32_at(file, 20).ok_or(truncated)?;
    if !rest.starts_with(IDENT) || machine != EM_X86_64 || version != EV_CURRENT {
        return Err(ElfError::WrongMachine);
    }
    if kind != ET_DYN {
        return Err(ElfError::NotPie);
    }
    u64_at(file, 24).ok_or(truncated)
}

/// The program headers.
fn headers(file: &[u8]) -> Result<impl Iterator<Item = Option<Header>>, ElfError> {
    let truncated = ElfError::Truncated("the file header");
    let offset = u64_at(file, 32).ok_or(truncated)?;
    let size = u16_at(file, 54).ok_or(truncated)?;
    let count = u16_at(file, 56).ok_or(truncated)?;
    if size != HEADER_SIZE {
        return Err(ElfError::HeaderSize);
    }
    if count > MAX_HEADERS {
        return Err(ElfError::TooManyHeaders);
    }
    let table = range(file, offset, u64::from(size) * u64::from(count))
        .ok_or(ElfError::Truncated("the program headers"))?;
    Ok(table.chunks_exact(usize::from(HEADER_SIZE)).map(Header::read))
}

/// Appends a segment, which has to begin after the last page of the one before it.
fn add_segment<'a>(
    segments: &mut Vec<Segment<'a>, MAX_SEGMENTS>,
    segment: Segment<'a>,
    index: u16,
) -> Result<(), ElfError> {
    if segments.last().is_some_and(|last| segment.vaddr < last.page_end()) {
        return Err(ElfError::SegmentOrder(index));
    }
    segments.push(segment).map_err(|_| ElfError::TooManySegments)
}

fn is_code(segment: &Segment<'_>, vaddr: u64) -> bool {
    segment.protection == Protection::ReadExecute && segment.bytes(vaddr, 1).is_some()
}

/// The pages of a PT_GNU_RELRO header. They must hold nothing of the segment that has to stay writable.
fn relro_pages(segments: &[Segment<'_>], header: &Header) -> Result<Range<u64>, ElfError> {
    let (start, size) = (header.vaddr, header.memory_size);
    // The linker rounds up over the end of the segment's last page.
    let covers = |s: &&Segment<'_>| {
        s.protection == Protection::ReadWrite
            && start >= s.vaddr
            && start.checked_add(size).is_some_and(|end| end <= s.page_end())
    };
    let segment = segments.iter().find(covers).ok_or(ElfError::Relro)?;
    let end = start + size;
    if !start.is_multiple_of(PAGE) || (!end.is_multiple_of(PAGE) && end < segment.end()) {
        return Err(ElfError::Relro);
    }
    Ok(start..end.next_multiple_of(PAGE))
}
