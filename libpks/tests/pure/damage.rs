//! Every one-bit flip and every truncation of a good server image and of a good frame.

use crate::elf_builder::Spec;
use libpks::elf::{Image, MAX_SPAN};
use libpks::wire::{FrameReader, encode_frame, frame_size};

/// Calls `look_fn` with each copy of `good` that has one bit flipped, every `step`th of them.
fn each_flip(good: &[u8], step: usize, mut look_fn: impl FnMut(&[u8], usize)) {
    let mut copy = good.to_vec();
    for bit in (0..8 * good.len()).step_by(step) {
        copy[bit / 8] ^= 1 << (bit % 8);
        look_fn(&copy, bit);
        copy[bit / 8] ^= 1 << (bit % 8);
    }
}

/// An image that is accepted lies in its file and its span, whatever is wrong with it.
fn check_bounds(file: &[u8], bit: usize) -> bool {
    let Ok(image) = Image::parse(file) else { return false };
    let inside = file.as_ptr_range();
    assert!(image.span() <= MAX_SPAN, "bit {bit}");
    for segment in image.segments() {
        let data = segment.data.as_ptr_range();
        assert!(inside.start <= data.start && data.end <= inside.end, "bit {bit}: outside of the file");
        assert!(segment.memory_size >= segment.data.len() as u64, "bit {bit}");
        assert!(segment.page_end() <= image.span(), "bit {bit}: outside of the span");
    }
    for relocation in image.relocations() {
        assert!(relocation.target < image.span(), "bit {bit}: relocation outside of the span");
    }
    true
}

#[test]
fn an_image_with_one_bit_flipped_is_refused_or_stays_in_its_bounds() {
    let good = Spec::good().bytes();
    let step = if cfg!(miri) { 997 } else { 1 };
    let (mut flips, mut accepted) = (0, 0);
    each_flip(&good, step, |file, bit| {
        flips += 1;
        accepted += usize::from(check_bounds(file, bit));
    });
    // Most of the file is text and data, of which the check says nothing.
    assert!(accepted > flips / 2 && accepted < flips, "{accepted} of {flips} accepted");
}

#[test]
fn an_image_cut_off_anywhere_is_refused() {
    let good = Spec::good().bytes();
    let step = if cfg!(miri) { 499 } else { 1 };
    for length in (0..good.len()).step_by(step) {
        assert!(Image::parse(&good[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn no_flipped_bit_of_a_frame_gives_another_message() {
    let payload: Vec<u8> = (0..if cfg!(miri) { 20 } else { 300 }).map(|n| n as u8).collect();
    let mut frame = vec![0; frame_size(payload.len())];
    let length = encode_frame(&payload, &mut frame).unwrap();
    each_flip(&frame[..length], 1, |stream, bit| {
        let mut reader = FrameReader::<600>::new();
        let mut seen = Vec::new();
        for byte in stream.iter().chain(&frame[..length]).chain([&0]) {
            seen.extend(reader.push(*byte).map(|read| read.map(<[u8]>::to_vec)));
        }
        let messages: Vec<_> = seen.iter().flatten().collect();
        // A flipped delimiter joins both frames; else the second is read as it was sent.
        assert!(messages.len() <= 1 && messages.iter().all(|read| **read == payload), "bit {bit}: {seen:x?}");
        assert!(seen.iter().any(Result::is_err), "bit {bit}: the damage went unnoticed");
        let joined = bit / 8 == length - 1;
        assert!(joined || messages.len() == 1, "bit {bit}: the next frame is lost: {:?}", seen.first());
    });
}
