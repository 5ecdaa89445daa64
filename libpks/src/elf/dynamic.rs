//! The dynamic section and the relocations that it points to.
#![forbid(unsafe_code)]

use super::read::{once, u64_at};
use super::segment::Segment;
use super::{ElfError, Protection};

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_PLTRELSZ: u64 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELAENT: u64 = 9;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_REL: u64 = 17;
const DT_TEXTREL: u64 = 22;
const DT_JMPREL: u64 = 23;
const DT_INIT_ARRAY: u64 = 25;
const DT_FINI_ARRAY: u64 = 26;
const DT_FLAGS: u64 = 30;
const DT_PREINIT_ARRAY: u64 = 32;
const DT_RELR: u64 = 36;

const DF_TEXTREL: u64 = 4;
const R_X86_64_RELATIVE: u32 = 8;

/// Size in bytes of an entry of the dynamic section.
const ENTRY: usize = 16;
/// Size in bytes of an ELF64 RELA entry.
const RELA: usize = 24;

/// The bytes of the relocation table that a dynamic section tells of. Refuses whatever else it asks for.
pub(super) fn relocation_table<'a>(dynamic: &[u8], segments: &[Segment<'a>]) -> Result<&'a [u8], ElfError> {
    let (mut table, mut size, mut entry_size) = (None, None, None);
    for entry in dynamic.chunks_exact(ENTRY) {
        let (Some(tag), Some(value)) = (u64_at(entry, 0), u64_at(entry, 8)) else { break };
        match tag {
            DT_NULL => break,
            DT_RELA => once(&mut table, value, "DT_RELA")?,
            DT_RELASZ => once(&mut size, value, "DT_RELASZ")?,
            DT_RELAENT => once(&mut entry_size, value, "DT_RELAENT")?,
            DT_NEEDED => return Err(ElfError::Needed),
            DT_TEXTREL => return Err(ElfError::TextRelocations),
            DT_FLAGS if value & DF_TEXTREL != 0 => return Err(ElfError::TextRelocations),
            DT_REL => return Err(ElfError::RelocationTable("REL")),
            DT_RELR => return Err(ElfError::RelocationTable("RELR")),
            DT_JMPREL | DT_PLTRELSZ => return Err(ElfError::RelocationTable("PLT")),
            DT_INIT | DT_FINI | DT_INIT_ARRAY | DT_FINI_ARRAY | DT_PREINIT_ARRAY => {
                return Err(ElfError::Initialisers);
            }
            _ => {}
        }
    }
    match (table, size, entry_size) {
        (None, None, None) => Ok(&[]),
        (Some(table), Some(size), Some(24)) if size % 24 == 0 => segments
            .iter()
            .find_map(|segment| segment.bytes(table, size))
            .ok_or(ElfError::RelocationTableRange),
        _ => Err(ElfError::RelocationTableRange),
    }
}

/// "Write the image's address plus `addend` to the 8 bytes at `target`."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Where; counts from the image's address, a multiple of 8, in a writable segment.
    pub target: u64,
    /// What; inside the image or just after it.
    pub addend: u64,
}

/// The relocations of an image, in the order of the file.
#[derive(Clone, Debug)]
pub struct Relocations<'a>(core::slice::ChunksExact<'a, u8>);

impl<'a> Relocations<'a> {
    pub(super) fn new(table: &'a [u8]) -> Self {
        Self(table.chunks_exact(RELA))
    }
}

impl Iterator for Relocations<'_> {
    type Item = Relocation;

    fn next(&mut self) -> Option<Relocation> {
        let entry = self.0.next()?;
        Some(Relocation { target: u64_at(entry, 0)?, addend: u64_at(entry, 16)? })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Relocations<'_> {}

/// Checks every relocation of a table against the segments of an image that ends at `span`.
pub(super) fn check(table: &[u8], segments: &[Segment<'_>], span: u64) -> Result<(), ElfError> {
    for (number, (entry, relocation)) in (0..).zip(table.chunks_exact(RELA).zip(Relocations::new(table))) {
        // Symbol in the upper half, type in the lower.
        let info = u64_at(entry, 8).ok_or(ElfError::RelocationTableRange)?;
        if info != u64::from(R_X86_64_RELATIVE) {
            return Err(ElfError::RelocationType(number, info as u32));
        }
        let is_target = |segment: &Segment<'_>| {
            segment.protection == Protection::ReadWrite && segment.covers(relocation.target, 8)
        };
        if !relocation.target.is_multiple_of(8) || !segments.iter().any(is_target) {
            return Err(ElfError::RelocationTarget(number));
        }
        if relocation.addend > span {
            return Err(ElfError::RelocationAddend(number));
        }
    }
    Ok(())
}
