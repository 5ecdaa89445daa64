//! Program headers and the segments that they describe.
#![forbid(unsafe_code)]

use super::read::{range, u32_at, u64_at};
use super::{ElfError, MAX_SPAN, PAGE};

pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_DYNAMIC: u32 = 2;
pub(super) const PT_INTERP: u32 = 3;
pub(super) const PT_NOTE: u32 = 4;
pub(super) const PT_TLS: u32 = 7;
pub(super) const PT_GNU_STACK: u32 = 0x6474_e551;
pub(super) const PT_GNU_RELRO: u32 = 0x6474_e552;

pub(super) const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// Size in bytes of an ELF64 program header.
pub(super) const HEADER_SIZE: u16 = 56;

/// A program header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) vaddr: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) align: u64,
}

impl Header {
    /// The header at the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            kind: u32_at(bytes, 0)?,
            flags: u32_at(bytes, 4)?,
            offset: u64_at(bytes, 8)?,
            vaddr: u64_at(bytes, 16)?,
            file_size: u64_at(bytes, 32)?,
            memory_size: u64_at(bytes, 40)?,
            align: u64_at(bytes, 48)?,
        })
    }
}

/// How the pages of a segment are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Text.
    ReadExecute,
    /// Constants.
    ReadOnly,
    /// Data.
    ReadWrite,
}

impl Protection {
    fn from_flags(flags: u32, index: u16) -> Result<Self, ElfError> {
        match flags {
            f if f & PF_W != 0 && f & PF_X != 0 => Err(ElfError::WriteAndExecute(index)),
            f if f == PF_R | PF_X => Ok(Self::ReadExecute),
            f if f == PF_R | PF_W => Ok(Self::ReadWrite),
            PF_R => Ok(Self::ReadOnly),
            _ => Err(ElfError::SegmentFlags(index)),
        }
    }
}

/// A part of the image to be loaded. Addresses count from the place where the image is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its first address; starts a page.
    pub vaddr: u64,
    /// Its size in memory, in bytes. What `data` does not fill is 0.
    pub memory_size: u64,
    /// Its first bytes.
    pub data: &'a [u8],
    /// How it is mapped, before RELRO.
    pub protection: Protection,
}

impl<'a> Segment<'a> {
    /// The segment of a PT_LOAD header, checked by itself.
    pub(super) fn new(file: &'a [u8], header: &Header, index: u16) -> Result<Self, ElfError> {
        let protection = Protection::from_flags(header.flags, index)?;
        let data = range(file, header.offset, header.file_size);
        let data = data.ok_or(ElfError::SegmentOutsideFile(index))?;
        let short = header.file_size < header.memory_size;
        if header.file_size > header.memory_size || (protection == Protection::ReadExecute && short) {
            return Err(ElfError::SegmentSizes(index));
        }
        if !header.vaddr.is_multiple_of(PAGE) {
            return Err(ElfError::SegmentMisaligned(index));
        }
        let end = header.vaddr.checked_add(header.memory_size);
        if end.is_none_or(|end| end > MAX_SPAN) {
            return Err(ElfError::TooLarge(index));
        }
        Ok(Self { vaddr: header.vaddr, memory_size: header.memory_size, data, protection })
    }

    /// The address after its last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.vaddr + self.memory_size
    }

    /// The address after its last page.
    #[must_use]
    pub const fn page_end(&self) -> u64 {
        self.end().next_multiple_of(PAGE)
    }

    /// Whether `len` bytes at `vaddr` all lie in the segment's memory.
    pub(super) fn covers(&self, vaddr: u64, len: u64) -> bool {
        vaddr >= self.vaddr && vaddr.checked_add(len).is_some_and(|end| end <= self.end())
    }

    /// `len` bytes at `vaddr`, if all of them come from the file.
    pub(super) fn bytes(&self, vaddr: u64, len: u64) -> Option<&'a [u8]> {
        range(self.data, vaddr.checked_sub(self.vaddr)?, len)
    }
}
