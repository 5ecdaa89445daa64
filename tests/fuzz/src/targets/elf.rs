//! Server images. What [`Image::parse`] accepts must be what another reader of ELF sees, and must load without one step
//! outside of its own memory.

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use libpks::elf::{Image, MAX_SPAN, PAGE, Protection, Relocation, symbol_at};
use libpks::verify;

/// Kind, machine, version, entry, tables and counts of the file's header; then the fields of the first eight program
/// headers where they usually are, behind it.
pub const FIELDS: &[(usize, usize)] = &{
    let header = [(16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (54, 2), (56, 2), (58, 2), (60, 2)];
    let program = [(0, 4), (4, 4), (8, 8), (16, 8), (32, 8), (40, 8), (48, 8)];
    let mut fields = [(0, 0); 10 + 8 * 7];
    let mut n = 0;
    while n < fields.len() {
        fields[n] = if n < 10 {
            header[n]
        } else {
            let (offset, size) = program[(n - 10) % 7];
            (64 + 56 * ((n - 10) / 7) + offset, size)
        };
        n += 1;
    }
    fields
};

/// Where the file's header tells of sections: their table, their number, that of their names.
const SECTIONS: &[(usize, usize)] = &[(40, 8), (60, 2), (62, 2)];
/// The most memory that an image is given to be loaded into.
const MOST_MEMORY: u64 = 1 << 20;

/// Runs the target.
pub fn run(file: &[u8]) {
    if let Some((_, start)) = symbol_at(file, 0x1000) {
        assert!(start <= 0x1000, "a function that begins behind the address");
    }
    let Ok(image) = Image::parse(file) else { return };
    check_segments(&image);
    compare(file, &image);
    check_protections(&image);
    load(&image);
    if let Err(finding) = verify::image(&image) {
        assert!(finding.offset < image.span(), "an escape outside of the image");
    }
}

fn check_segments(image: &Image<'_>) {
    let mut free_from = 0;
    for segment in image.segments() {
        assert!(segment.vaddr % PAGE == 0 && segment.vaddr >= free_from, "{segment:x?} overlaps");
        assert!(segment.data.len() as u64 <= segment.memory_size, "{segment:x?} has too many bytes");
        free_from = segment.vaddr + segment.memory_size;
        assert!(free_from <= MAX_SPAN, "{segment:x?} ends too high");
        free_from = free_from.next_multiple_of(PAGE);
    }
    assert_eq!(image.span(), free_from, "the span is not that of the segments");
    let entry = image.entry();
    let holds_entry = image.segments().iter().any(|segment| {
        let bytes = segment.vaddr..segment.vaddr + segment.data.len() as u64;
        segment.protection == Protection::ReadExecute && bytes.contains(&entry)
    });
    assert!(holds_entry, "entry {entry:#x} is not in text");
}

/// The same segments as another reader sees.
fn compare(file: &[u8], image: &Image<'_>) {
    // It looks at sections too, which say nothing to a loader.
    let mut file = file.to_vec();
    for &(at, size) in SECTIONS {
        file[at..at + size].fill(0);
    }
    let other = ElfBytes::<LittleEndian>::minimal_parse(&file).expect("another reader takes it");
    assert_eq!(other.ehdr.e_entry, image.entry());
    let headers = other.segments().expect("program headers");
    let loaded = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0);
    let mut own = image.segments().iter();
    for header in loaded {
        let segment = own.next().expect("a segment that was left out");
        let (writes, executes) = (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0);
        assert!(!(writes && executes), "writable and executable: {header:x?}");
        let protection = match (writes, executes) {
            (true, _) => Protection::ReadWrite,
            (_, true) => Protection::ReadExecute,
            _ => Protection::ReadOnly,
        };
        let data = other.segment_data(&header).expect("a segment in the file");
        assert_eq!(
            (segment.vaddr, segment.memory_size, segment.data, segment.protection),
            (header.p_vaddr, header.p_memsz, data, protection)
        );
    }
    assert_eq!(own.next(), None, "a segment that is not in the file");
}

/// Each page is mapped as its segment says; RELRO takes writing away from whole pages, and from none that is text.
fn check_protections(image: &Image<'_>) {
    let relro = image.relro().unwrap_or(0..0);
    assert!(relro.start % PAGE == 0 && relro.end % PAGE == 0, "RELRO {relro:x?} has half pages");
    for segment in image.segments() {
        let pages = segment.memory_size.div_ceil(PAGE);
        // The first and the last tell as much as all.
        for page in (0..pages.min(8)).chain(pages.saturating_sub(8)..pages) {
            let at = segment.vaddr + page * PAGE;
            let sealed = relro.contains(&at);
            assert!(!sealed || segment.protection == Protection::ReadWrite, "RELRO over {segment:x?}");
            let expected = if sealed { Protection::ReadOnly } else { segment.protection };
            assert_eq!(image.protection(at), Some(expected), "page {at:#x}");
        }
    }
}

/// Puts the image into memory as a loader does.
fn load(image: &Image<'_>) {
    if image.span() > MOST_MEMORY {
        return;
    }
    let mut memory = vec![0; image.span() as usize];
    for segment in image.segments() {
        memory[segment.vaddr as usize..][..segment.data.len()].copy_from_slice(segment.data);
    }
    for Relocation { target, addend } in image.relocations() {
        assert!(addend <= image.span(), "a word that points out of the image");
        let written = image.segments().iter().any(|segment| {
            let inside = segment.vaddr..segment.vaddr + segment.memory_size;
            segment.protection == Protection::ReadWrite
                && inside.contains(&target)
                && inside.contains(&(target + 7))
        });
        assert!(written && target % 8 == 0, "a relocation at {target:#x}");
        memory[target as usize..][..8].copy_from_slice(&addend.to_le_bytes());
    }
}
