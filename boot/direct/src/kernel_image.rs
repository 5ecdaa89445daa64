//! The kernel's ELF file: which segments go where, checked before a byte is placed.

use crate::memory_map::PAGE;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use heapless::Vec;

/// The lowest address that the Limine protocol lets a kernel be linked at.
pub const LOWEST_ADDRESS: u64 = 0xffff_ffff_8000_0000;
/// The most loadable segments that a kernel may have.
pub const MAX_SEGMENTS: usize = 32;

/// Why a kernel file cannot be loaded. Segments are counted among the file's program headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file's header or its program headers do not parse.
    #[error("the kernel is no ELF file, or its headers are cut off")]
    NotElf,
    /// It is for another machine, or not a static executable.
    #[error("the kernel is no static 64-bit executable for x86-64")]
    WrongType,
    /// There is nothing to load.
    #[error("the kernel has no segment to load")]
    NoSegments,
    /// There are more than [`MAX_SEGMENTS`] segments to load.
    #[error("the kernel has more than {MAX_SEGMENTS} segments to load")]
    TooManySegments,
    /// The segment's address is below [`LOWEST_ADDRESS`].
    #[error("kernel segment {0} lies below {LOWEST_ADDRESS:#x}")]
    LowerHalf(usize),
    /// The segment's end exceeds the address space, or its memory is smaller than its file part.
    #[error("kernel segment {0} has an impossible size")]
    Size(usize),
    /// The segment's bytes are not all in the file.
    #[error("kernel segment {0} is not wholly in the file")]
    OutsideFile(usize),
    /// The segment's alignment is not a power of two.
    #[error("kernel segment {0} has an impossible alignment")]
    Alignment(usize),
    /// Two segments have a byte in common.
    #[error("kernel segments {0} and {1} overlap")]
    Overlap(usize, usize),
    /// Two segments have a page in common, but not their permissions.
    #[error("kernel segments {0} and {1} share a page with different permissions")]
    SharedPage(usize, usize),
    /// The entry point is in no executable segment.
    #[error("the kernel's entry point {0:#x} is in no executable segment")]
    Entry(u64),
}

/// A part of the kernel that is mapped with one set of permissions. Everything can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its number among the program headers.
    pub number: usize,
    /// Its virtual address.
    pub address: u64,
    /// Its length in memory in bytes; what `data` does not fill is zero.
    pub len: u64,
    /// Its bytes in the file.
    pub data: &'a [u8],
    /// Whether it can be written.
    pub write: bool,
    /// Whether it can be executed.
    pub execute: bool,
}

impl Segment<'_> {
    /// The pages that it touches, as virtual addresses.
    #[must_use]
    pub fn pages(&self) -> Range<u64> {
        self.address & !(PAGE - 1)..(self.address + self.len).next_multiple_of(PAGE)
    }
}

/// A kernel file that can be loaded.
#[derive(Debug, Clone)]
pub struct KernelImage<'a> {
    segments: Vec<Segment<'a>, MAX_SEGMENTS>,
    pages: Range<u64>,
    align: u64,
    entry: u64,
}

impl<'a> KernelImage<'a> {
    /// Checks `file`.
    ///
    /// # Errors
    /// The first mistake that it meets, as [`ImageError`] says, other than the entry point's.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64 || header.e_machine != EM_X86_64 || header.e_type != ET_EXEC {
            return Err(ImageError::WrongType);
        }
        let nothing = Range { start: u64::MAX, end: 0 };
        let mut image = Self { segments: Vec::new(), pages: nothing, align: PAGE, entry: header.e_entry };
        let headers = elf.segments().ok_or(ImageError::NoSegments)?;
        for (number, header) in headers.iter().enumerate() {
            if header.p_type != PT_LOAD || header.p_memsz == 0 {
                continue;
            }
            image.add(segment(number, &header, file)?)?;
            if !header.p_align.max(1).is_power_of_two() {
                return Err(ImageError::Alignment(number));
            }
            image.align = image.align.max(header.p_align);
        }
        if image.segments.is_empty() { Err(ImageError::NoSegments) } else { Ok(image) }
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// The pages from the first to the last segment, as virtual addresses. They are loaded to
    /// adjoining physical memory.
    #[must_use]
    pub fn pages(&self) -> Range<u64> {
        self.pages.clone()
    }

    /// The alignment in bytes that the physical place needs: the largest of the segments.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.align
    }

    /// The entry point in the file's header.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Checks that code can be entered at virtual address `entry`.
    ///
    /// # Errors
    /// [`ImageError::Entry`] if no executable segment holds it.
    pub fn check_entry(&self, entry: u64) -> Result<(), ImageError> {
        let inside = |s: &Segment<'_>| s.execute && entry >= s.address && entry - s.address < s.len;
        if self.segments.iter().any(inside) { Ok(()) } else { Err(ImageError::Entry(entry)) }
    }

    /// Lays the segments out in `memory`, which must be as long as [`Self::pages`], and clears the
    /// rest of it. Returns the length of the part that holds all bytes from the file.
    pub fn load(&self, memory: &mut [u8]) -> usize {
        memory.fill(0);
        let mut filled = 0;
        for segment in &self.segments {
            let start = (segment.address - self.pages.start) as usize;
            memory[start..start + segment.data.len()].copy_from_slice(segment.data);
            filled = filled.max(start + segment.data.len());
        }
        filled
    }

    fn add(&mut self, new: Segment<'a>) -> Result<(), ImageError> {
        let shared = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        for old in &self.segments {
            let (old_bytes, new_bytes) =
                (old.address..old.address + old.len, new.address..new.address + new.len);
            if shared(&old_bytes, &new_bytes) {
                return Err(ImageError::Overlap(old.number, new.number));
            }
            let same = (old.write, old.execute) == (new.write, new.execute);
            if !same && shared(&old.pages(), &new.pages()) {
                return Err(ImageError::SharedPage(old.number, new.number));
            }
        }
        let pages = new.pages();
        self.pages = self.pages.start.min(pages.start)..self.pages.end.max(pages.end);
        self.segments.push(new).map_err(|_| ImageError::TooManySegments)
    }
}

/// Checks one program header against the file and the address space.
fn segment<'a>(
    number: usize,
    header: &elf::segment::ProgramHeader,
    file: &'a [u8],
) -> Result<Segment<'a>, ImageError> {
    if header.p_vaddr < LOWEST_ADDRESS {
        return Err(ImageError::LowerHalf(number));
    }
    let end = header.p_vaddr.checked_add(header.p_memsz).and_then(|end| end.checked_next_multiple_of(PAGE));
    if end.is_none() || header.p_filesz > header.p_memsz {
        return Err(ImageError::Size(number));
    }
    let data = usize::try_from(header.p_offset)
        .ok()
        .and_then(|start| file.get(start..)?.get(..usize::try_from(header.p_filesz).ok()?))
        .ok_or(ImageError::OutsideFile(number))?;
    Ok(Segment {
        number,
        address: header.p_vaddr,
        len: header.p_memsz,
        data,
        write: header.p_flags & PF_W != 0,
        execute: header.p_flags & PF_X != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const BASE: u64 = LOWEST_ADDRESS;
    const R: u64 = 4;
    const RX: u64 = 5;
    const RW: u64 = 6;

    /// flags, offset, address, length in file, length in memory, alignment
    type Header = [u64; 6];

    const TEXT: Header = [RX, 0x1000, BASE, 0x800, 0x800, 0x1000];
    const DATA: Header = [RW, 0x1800, BASE + 0x1000, 0x100, 0x2345, 0x1000];

    fn file(machine: u16, kind: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
        let mut file = vec![0; 0x2000];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[20] = 1;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32] = 64;
        for (at, value) in [(52, 64u16), (54, 56), (56, headers.len() as u16)] {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (number, [flags, rest @ ..]) in headers.iter().enumerate() {
            let [offset, address, in_file, in_memory, align] = *rest;
            let words = [1 | flags << 32, offset, address, address, in_file, in_memory, align];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            file[64 + number * 56..][..56].copy_from_slice(&bytes);
        }
        file[0x1000..0x1800].fill(b'T');
        file[0x1800..0x1900].fill(b'D');
        file
    }

    fn error(headers: &[Header]) -> ImageError {
        KernelImage::parse(&file(62, 2, BASE, headers)).expect_err("a broken kernel was accepted")
    }

    fn with(mut header: Header, field: usize, value: u64) -> Header {
        header[field] = value;
        header
    }

    #[test]
    fn loads_segments_and_clears_the_rest() {
        let file = file(62, 2, BASE + 0x7ff, &[TEXT, with(DATA, 5, 0x20_0000)]);
        let image = KernelImage::parse(&file).expect("a good kernel");
        assert_eq!(image.pages(), BASE..BASE + 0x4000);
        assert_eq!((image.align(), image.entry()), (0x20_0000, BASE + 0x7ff));
        assert_eq!(image.check_entry(BASE + 0x7ff), Ok(()));
        assert_eq!(image.check_entry(BASE + 0x800), Err(ImageError::Entry(BASE + 0x800)));
        assert_eq!(image.check_entry(BASE + 0x1000), Err(ImageError::Entry(BASE + 0x1000)));
        let mut memory = vec![0xaa; 0x4000];
        assert_eq!(image.load(&mut memory), 0x1100);
        let (text, rest) = memory.split_at(0x800);
        assert!(text.iter().all(|byte| *byte == b'T'));
        assert!(rest[0x800..0x900].iter().all(|byte| *byte == b'D'));
        assert!(rest[..0x800].iter().chain(&rest[0x900..]).all(|byte| *byte == 0));
    }

    #[test]
    fn refuses_other_files() {
        let good = file(62, 2, BASE, &[TEXT]);
        assert_eq!(KernelImage::parse(b"#!/bin/sh").unwrap_err(), ImageError::NotElf);
        assert_eq!(KernelImage::parse(&good[..100]).unwrap_err(), ImageError::NotElf);
        for (machine, kind) in [(3, 2), (62, 3), (62, 1)] {
            let file = file(machine, kind, BASE, &[TEXT]);
            assert_eq!(KernelImage::parse(&file).unwrap_err(), ImageError::WrongType);
        }
        assert_eq!(error(&[]), ImageError::NoSegments);
        assert_eq!(error(&[with(TEXT, 4, 0)]), ImageError::NoSegments);
    }

    #[test]
    fn refuses_segments_that_cannot_be() {
        assert_eq!(error(&[with(TEXT, 2, 0x20_0000)]), ImageError::LowerHalf(0));
        assert_eq!(error(&[TEXT, with(DATA, 2, BASE - 1)]), ImageError::LowerHalf(1));
        assert_eq!(error(&[with(TEXT, 4, 0x7ff)]), ImageError::Size(0));
        assert_eq!(error(&[with(TEXT, 4, 0x8000_0000)]), ImageError::Size(0));
        assert_eq!(error(&[with(TEXT, 4, u64::MAX)]), ImageError::Size(0));
        assert_eq!(error(&[with(TEXT, 1, 0x1801)]), ImageError::OutsideFile(0));
        assert_eq!(error(&[with(TEXT, 1, u64::MAX)]), ImageError::OutsideFile(0));
        assert_eq!(error(&[with(TEXT, 5, 0x1800)]), ImageError::Alignment(0));
        assert_eq!(error(&[TEXT, with(TEXT, 2, BASE + 0x7ff)]), ImageError::Overlap(0, 1));
        assert_eq!(error(&[DATA, with(TEXT, 2, BASE + 0x3000)]), ImageError::Overlap(0, 1));
        assert_eq!(
            error(&[with(DATA, 4, 0x2800), with(TEXT, 2, BASE + 0x3800)]),
            ImageError::SharedPage(0, 1)
        );
        assert_eq!(error(&[DATA, with(TEXT, 2, BASE + 0x3800)]), ImageError::SharedPage(0, 1));
        let one_page = [with(TEXT, 0, R), with(with(TEXT, 0, R), 2, BASE + 0x800)];
        assert!(KernelImage::parse(&file(62, 2, BASE, &one_page)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_loaded(
            noise in prop::collection::vec((0usize..300, any::<u8>()), 0..12),
            cut in 0usize..0x2000,
        ) {
            let mut file = file(62, 2, BASE, &[TEXT, DATA]);
            file.truncate(0x2000 - cut / 4);
            for (at, value) in noise {
                file[at] = value;
            }
            if let Ok(image) = KernelImage::parse(&file) {
                let len = image.pages().end - image.pages().start;
                prop_assert!(len > 0 && image.pages().start >= LOWEST_ADDRESS);
                if len < 1 << 24 {
                    image.load(&mut vec![0; len as usize]);
                }
            }
        }
    }
}
