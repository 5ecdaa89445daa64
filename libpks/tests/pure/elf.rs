//! The check of server images: what is good, and every way to be refused.

use libpks::elf::{ElfError, Image, MAX_SPAN, PAGE, Protection, Relocation};
use proptest::prelude::*;

use crate::elf_builder::{DATA, Header, RELA_AT, RELRO, RODATA, Spec, TEXT, note};

/// What the check says to a good image after `spoil`.
fn refused(spoil: impl FnOnce(&mut Spec)) -> Option<ElfError> {
    let mut spec = Spec::good();
    spoil(&mut spec);
    Image::parse(&spec.bytes()).err()
}

#[test]
fn good_image_is_accepted_and_described() {
    let file = Spec::good().bytes();
    let image = Image::parse(&file).unwrap();
    let segments: Vec<_> = image
        .segments()
        .iter()
        .map(|s| (s.vaddr, s.data.len(), s.memory_size, s.page_end(), s.protection))
        .collect();
    assert_eq!(
        segments,
        [
            (TEXT, 0x985, 0x985, 0x1000, Protection::ReadExecute),
            (RODATA, 0x2cc, 0x2cc, 0x2000, Protection::ReadOnly),
            (RELRO, 0x168, 0x168, 0x3000, Protection::ReadWrite),
            (DATA, 0x10, 0x1f40, 0x5000, Protection::ReadWrite),
        ]
    );
    assert_eq!(image.segments()[1].data[..4], 4_u32.to_le_bytes(), "bytes of the right place");
    assert_eq!((image.entry(), image.abi_version(), image.span()), (0x30, 7, 0x5000));
    assert_eq!(image.relro(), Some(RELRO..DATA));
    let relocations: Vec<_> = image.relocations().collect();
    assert_eq!(relocations.len(), 3);
    assert_eq!(relocations[1], Relocation { target: RELRO + 8, addend: RODATA + 0x30 });
    assert_eq!(image.relocations().len(), 3);
}

#[test]
fn pages_are_sealed_after_relocation() {
    let file = Spec::good().bytes();
    let image = Image::parse(&file).unwrap();
    let pages = [TEXT, RODATA, RELRO, DATA, DATA + PAGE, DATA + 2 * PAGE].map(|page| image.protection(page));
    let (rx, ro, rw) = (Protection::ReadExecute, Protection::ReadOnly, Protection::ReadWrite);
    assert_eq!(pages, [Some(rx), Some(ro), Some(ro), Some(rw), Some(rw), None]);
}

#[test]
fn other_files_are_refused() {
    let file = Spec::good().bytes();
    assert_eq!(Image::parse(b"").err(), Some(ElfError::NotElf));
    assert_eq!(Image::parse(b"#!/bin/sh").err(), Some(ElfError::NotElf));
    for (at, value) in [(4, 1), (5, 2), (6, 2), (20, 2)] {
        let mut file = file.clone();
        file[at] = value;
        assert_eq!(Image::parse(&file).err(), Some(ElfError::WrongMachine), "byte {at}");
    }
    assert_eq!(refused(|spec| spec.machine = 3), Some(ElfError::WrongMachine));
    assert_eq!(refused(|spec| spec.kind = 2), Some(ElfError::NotPie));
}

#[test]
fn file_cut_off_anywhere_is_refused() {
    let file = Spec::good().bytes();
    for length in (0..0x200).chain((0x200..file.len()).step_by(61)) {
        assert!(Image::parse(&file[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn header_table_must_be_in_the_file_and_of_known_size() {
    let mut file = Spec::good().bytes();
    file[54] = 64;
    assert_eq!(Image::parse(&file).err(), Some(ElfError::HeaderSize));
    let mut file = Spec::good().bytes();
    file[32..40].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
    assert_eq!(Image::parse(&file).err(), Some(ElfError::Truncated("the program headers")));
    let many = refused(|spec| spec.headers.extend(vec![Header::new(0, 0, 0, 0, 0); 26]));
    assert_eq!(many, Some(ElfError::TooManyHeaders));
}

#[test]
fn segments_are_bounded_in_number_and_there_is_one() {
    let none = refused(|spec| spec.headers.retain(|header| header.kind != 1));
    assert_eq!(none, Some(ElfError::NoSegments));
    let many = refused(|spec| {
        spec.headers
            .extend((0..5).map(|n| Header { offset: 0, ..Header::new(1, 4, 0x10000 + n * PAGE, 1, 1) }));
    });
    assert_eq!(many, Some(ElfError::TooManySegments));
    let empty = refused(|spec| spec.headers.push(Header::new(1, 6, 0, 0, 0)));
    assert_eq!(empty, None, "an empty segment is nothing to load");
}

#[test]
fn segment_bytes_must_be_in_the_file() {
    for offset in [0x4001, 0x10000, u64::MAX - 4, u64::MAX] {
        let error = refused(|spec| spec.headers[3].offset = offset);
        assert_eq!(error, Some(ElfError::SegmentOutsideFile(3)));
    }
    let error =
        refused(|spec| (spec.headers[3].file_size, spec.headers[3].memory_size) = (u64::MAX, u64::MAX));
    assert_eq!(error, Some(ElfError::SegmentOutsideFile(3)));
}

#[test]
fn segment_sizes_must_agree() {
    assert_eq!(refused(|spec| spec.headers[1].memory_size = 0x2cb), Some(ElfError::SegmentSizes(1)));
    let bss_in_text = refused(|spec| spec.headers[0].memory_size = 0x986);
    assert_eq!(bss_in_text, Some(ElfError::SegmentSizes(0)));
}

#[test]
fn segments_must_start_on_pages_in_ascending_order_without_sharing_one() {
    assert_eq!(refused(|spec| spec.headers[1].vaddr += 8), Some(ElfError::SegmentMisaligned(1)));
    assert_eq!(refused(|spec| spec.headers[2].vaddr = RODATA), Some(ElfError::SegmentOrder(2)));
    assert_eq!(refused(|spec| spec.headers.swap(0, 1)), Some(ElfError::SegmentOrder(1)));
    let reaches_over = refused(|spec| spec.headers[1].memory_size = 0x1001);
    assert_eq!(reaches_over, Some(ElfError::SegmentOrder(2)));
    let to_the_brim = refused(|spec| spec.headers[1].memory_size = 0x1000);
    assert_eq!(to_the_brim, None);
}

#[test]
fn image_must_not_span_too_much() {
    let fits = MAX_SPAN - DATA;
    assert_eq!(refused(|spec| spec.headers[3].memory_size = fits), None);
    assert_eq!(refused(|spec| spec.headers[3].memory_size = fits + 1), Some(ElfError::TooLarge(3)));
    assert_eq!(refused(|spec| spec.headers[3].memory_size = u64::MAX), Some(ElfError::TooLarge(3)));
    assert_eq!(refused(|spec| spec.headers[3].vaddr = 0_u64.wrapping_sub(PAGE)), Some(ElfError::TooLarge(3)));
}

#[test]
fn nothing_is_writable_and_executable() {
    for flags in [3, 7] {
        assert_eq!(refused(|spec| spec.headers[3].flags = flags), Some(ElfError::WriteAndExecute(3)));
    }
    for flags in [0, 1, 2, 8 | 4] {
        assert_eq!(refused(|spec| spec.headers[3].flags = flags), Some(ElfError::SegmentFlags(3)));
    }
    let stack = Header::new(0x6474_e551, 7, 0, 0, 0);
    assert_eq!(refused(|spec| spec.headers.push(stack.clone())), Some(ElfError::ExecutableStack));
    assert_eq!(refused(|spec| spec.headers.push(Header { flags: 6, ..stack })), None);
}

#[test]
fn entry_must_be_in_code() {
    for entry in [0x985, 0xfff, RODATA, DATA, 0x5000, u64::MAX] {
        assert_eq!(refused(|spec| spec.entry = entry), Some(ElfError::Entry), "{entry:#x}");
    }
    assert_eq!(refused(|spec| spec.entry = 0x984), None);
}

#[test]
fn dynamic_linking_is_refused() {
    let header = |kind| move |spec: &mut Spec| spec.headers.push(Header::new(kind, 4, RODATA, 8, 8));
    assert_eq!(refused(header(3)), Some(ElfError::Interpreter));
    assert_eq!(refused(header(7)), Some(ElfError::ThreadLocal));
    let tag = |tag, value| move |spec: &mut Spec| spec.dynamic.insert(0, (tag, value));
    assert_eq!(refused(tag(1, 1)), Some(ElfError::Needed));
    assert_eq!(refused(tag(22, 0)), Some(ElfError::TextRelocations));
    assert_eq!(refused(tag(30, 4)), Some(ElfError::TextRelocations));
    assert_eq!(refused(tag(17, 0)), Some(ElfError::RelocationTable("REL")));
    assert_eq!(refused(tag(36, 0)), Some(ElfError::RelocationTable("RELR")));
    assert_eq!(refused(tag(23, 0)), Some(ElfError::RelocationTable("PLT")));
    assert_eq!(refused(tag(2, 24)), Some(ElfError::RelocationTable("PLT")));
    for initialiser in [12, 13, 25, 26, 32] {
        assert_eq!(refused(tag(initialiser, 0x10)), Some(ElfError::Initialisers));
    }
}

#[test]
fn dynamic_section_must_be_there_once_and_in_loaded_bytes() {
    assert_eq!(refused(|spec| spec.headers[4].kind = 0), Some(ElfError::NoDynamic));
    let twice = refused(|spec| spec.headers.push(spec.headers[4].clone()));
    assert_eq!(twice, Some(ElfError::Duplicate("PT_DYNAMIC")));
    for vaddr in [DATA, DATA + 0x100, 0x9000, u64::MAX] {
        let error = refused(|spec| spec.headers[4].vaddr = vaddr);
        assert_eq!(error, Some(ElfError::Truncated("the dynamic section")));
    }
    assert_eq!(refused(|spec| spec.dynamic.insert(0, (7, 0))), Some(ElfError::Duplicate("DT_RELA")));
    let after_the_end = refused(|spec| spec.dynamic.push((1, 1)));
    assert_eq!(after_the_end, None, "what follows DT_NULL is not read");
}

#[test]
fn relocation_table_must_be_whole_and_in_loaded_bytes() {
    let entry = |index: usize, value| move |spec: &mut Spec| spec.dynamic[index].1 = value;
    let malformed = Some(ElfError::RelocationTableRange);
    assert_eq!(refused(entry(4, 16)), malformed, "entry size");
    assert_eq!(refused(entry(3, 71)), malformed, "odd size");
    assert_eq!(refused(entry(3, 24 * 1000)), malformed);
    assert_eq!(refused(entry(2, 0x9000)), malformed);
    assert_eq!(refused(entry(2, DATA + 0x20)), malformed, "not from the file");
    assert_eq!(refused(entry(2, u64::MAX)), malformed);
    assert_eq!(refused(|spec| spec.dynamic.retain(|(tag, _)| *tag != 8)), malformed);
    assert_eq!(
        refused(|spec| spec.dynamic.retain(|(tag, _)| !(7..=9).contains(tag))),
        None,
        "no relocations"
    );
}

#[test]
fn relocations_must_be_relative() {
    for kind in [0, 1, 6, 37, 8 | 1 << 32, 8 | 1 << 63] {
        let error = refused(|spec| spec.relocations[1].0 = kind);
        assert_eq!(error, Some(ElfError::RelocationType(1, kind as u32)));
    }
}

#[test]
fn relocations_must_write_to_aligned_words_of_writable_segments() {
    let last = DATA + 0x1f40 - 8;
    for target in [
        TEXT,
        RODATA,
        RELA_AT,
        RELRO + 4,
        RELRO + 0x168,
        last + 8,
        0x9000,
        u64::MAX - 7,
        0_u64.wrapping_sub(8),
    ] {
        let error = refused(|spec| spec.relocations[2].1 = target);
        assert_eq!(error, Some(ElfError::RelocationTarget(2)), "{target:#x}");
    }
    assert_eq!(refused(|spec| spec.relocations[2].1 = last), None);
    let straddles = refused(|spec| {
        spec.headers[3].memory_size = 0x1f44;
        spec.relocations[2].1 = DATA + 0x1f40;
    });
    assert_eq!(straddles, Some(ElfError::RelocationTarget(2)));
}

#[test]
fn relocations_must_point_into_the_image() {
    for addend in [DATA + 0x1f41, u64::MAX, 1 << 63] {
        let error = refused(|spec| spec.relocations[0].2 = addend);
        assert_eq!(error, Some(ElfError::RelocationAddend(0)));
    }
}

#[test]
fn relro_must_be_whole_pages_of_a_writable_segment() {
    let relro = |vaddr, size| {
        refused(move |spec: &mut Spec| (spec.headers[5].vaddr, spec.headers[5].memory_size) = (vaddr, size))
    };
    assert_eq!(relro(RELRO, 0x1000), None, "padded to the page");
    assert_eq!(relro(DATA, 0x1000), None, "the first page of more");
    for (vaddr, size) in [
        (RODATA, 0x1000),
        (TEXT, 0x1000),
        (RODATA, 0x2cc),
        (RELRO + 8, 0x160),
        (RELRO, 0x160),
        (RELRO, 0x1001),
        (DATA, 0x10),
    ] {
        assert_eq!(relro(vaddr, size), Some(ElfError::Relro), "{vaddr:#x} {size:#x}");
    }
    assert_eq!(relro(RELRO, u64::MAX), Some(ElfError::Relro));
    let twice = refused(|spec| spec.headers.push(spec.headers[5].clone()));
    assert_eq!(twice, Some(ElfError::Duplicate("PT_GNU_RELRO")));
    assert_eq!(refused(|spec| spec.headers[5].kind = 0), None, "not asked for");
}

/// What the check says to an image with these notes.
fn with_notes(notes: Vec<u8>) -> Option<ElfError> {
    refused(|spec| {
        spec.headers[6].file_size = notes.len() as u64;
        spec.notes = notes;
    })
}

#[test]
fn abi_note_must_be_there_once() {
    let abi = note(b"Portcullis\0", 1, &[1, 0, 0, 0]);
    assert_eq!(with_notes(abi.clone()), None);
    assert_eq!(with_notes(vec![]), Some(ElfError::NoAbiNote));
    assert_eq!(with_notes(note(b"Portcullis\0", 2, &[1, 0, 0, 0])), Some(ElfError::NoAbiNote));
    assert_eq!(with_notes(note(b"Portcullis", 1, &[1, 0, 0, 0])), Some(ElfError::NoAbiNote));
    assert_eq!(with_notes([abi.clone(), abi.clone()].concat()), Some(ElfError::Duplicate("the ABI note")));
    for size in [0, 2, 5, 8] {
        assert_eq!(with_notes(note(b"Portcullis\0", 1, &vec![1; size])), Some(ElfError::Note));
    }
    assert_eq!(with_notes(abi[..abi.len() - 1].to_vec()), Some(ElfError::Note));
    assert_eq!(with_notes([abi, vec![0; 3]].concat()), Some(ElfError::Note));
    assert_eq!(with_notes(vec![0xff; 24]), Some(ElfError::Note));
    let outside = refused(|spec| spec.headers[6].offset = u64::MAX);
    assert_eq!(outside, Some(ElfError::Truncated("the notes")));
}

/// What a loader relies on, checked on whatever was accepted.
fn rely_on(image: &Image<'_>) {
    let mut last = 0;
    for segment in image.segments() {
        assert!(segment.vaddr >= last && segment.vaddr % PAGE == 0);
        assert!(segment.data.len() as u64 <= segment.memory_size);
        last = segment.page_end();
    }
    assert!(last <= MAX_SPAN && image.span() == last);
    assert_eq!(image.protection(image.entry()), Some(Protection::ReadExecute));
    for Relocation { target, addend } in image.relocations() {
        let writable = image.segments().iter().any(|segment| {
            segment.protection == Protection::ReadWrite
                && (segment.vaddr..segment.end()).contains(&target)
                && target + 8 <= segment.end()
        });
        assert!(writable && target % 8 == 0 && addend <= last);
    }
    let relro = image.relro().unwrap_or(0..0);
    assert!(relro.start % PAGE == 0 && relro.end % PAGE == 0 && relro.end <= last);
}

/// A number that breaks things.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64, -9_i64..9).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add_signed(off)),
        (0_u64..6, -9_i64..9).prop_map(|(page, off)| (page * PAGE).wrapping_add_signed(off)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 4000 }, ..ProptestConfig::default() })]
    #[test]
    fn mutated_images_never_panic_and_what_is_accepted_is_sound(
        changes in prop::collection::vec((0_usize..420, prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)], hostile()), 0..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut file = Spec::good().bytes();
        for (place, width, value) in changes {
            // Headers, notes, relocations and dynamic section: all bytes that mean something.
            let places = [(0, 64 + 7 * 56), (RODATA + 0x1000, 0x30), (RELA_AT + 0x1000, 72), (RELRO + 0x1088, 0x70)];
            let (start, size) = places[place % places.len()];
            let at = start as usize + place.wrapping_mul(7) % (size as usize - 8);
            file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(image) = Image::parse(&file) {
            rely_on(&image);
        }
    }

    #[test]
    fn mutated_headers_never_panic_and_what_is_accepted_is_sound(
        changes in prop::collection::vec((0_usize..7, 0_usize..6, hostile()), 1..4),
    ) {
        let mut spec = Spec::good();
        for (header, field, value) in changes {
            let header = &mut spec.headers[header];
            match field {
                0 => header.offset = value,
                1 => header.vaddr = value,
                2 => header.file_size = value,
                3 => header.memory_size = value,
                4 => header.flags = value as u32 & 7,
                _ => header.kind = value as u32 & 7,
            }
        }
        if let Ok(image) = Image::parse(&spec.bytes()) {
            rely_on(&image);
        }
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = Spec::good().bytes();
        file[7..7 + garbage.len()].copy_from_slice(&garbage);
        let _ = Image::parse(&file);
        let _ = Image::parse(&garbage);
    }
}
