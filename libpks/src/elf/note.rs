//! The note by which a server tells the version of the ABI that it was built for.
#![forbid(unsafe_code)]

use super::ElfError;
use super::read::{once, range, u32_at};

/// The name of the note's vendor, with the terminating NUL that counts into its size.
pub const NOTE_NAME: &[u8] = b"Portcullis\0";
/// The note's type. Its descriptor is the version, a `u32`.
pub const NOTE_TYPE: u32 = 1;

/// Reads the notes of a PT_NOTE segment whose entries are aligned to `align`.
///
/// A note is three words (size of the name, size of the descriptor, type), then both, each padded.
pub(super) fn read_notes(mut notes: &[u8], align: u64, version: &mut Option<u32>) -> Result<(), ElfError> {
    // Notes are aligned to 4 bytes, some of GNU's to 8; linkers also write 0 or 1 for "not aligned".
    let align = if align == 8 { 8 } else { 4 };
    while !notes.is_empty() {
        let (name, descriptor, rest) = split(notes, align).ok_or(ElfError::Note)?;
        if name == NOTE_NAME && u32_at(notes, 8) == Some(NOTE_TYPE) {
            let value = descriptor.first_chunk().filter(|_| descriptor.len() == 4).ok_or(ElfError::Note)?;
            once(version, u32::from_le_bytes(*value), "the ABI note")?;
        }
        notes = rest;
    }
    Ok(())
}

/// Name and descriptor of the first note, and what follows it. Padding may be missing at the very end.
fn split(notes: &[u8], align: u64) -> Option<(&[u8], &[u8], &[u8])> {
    let name_size = u64::from(u32_at(notes, 0)?);
    let descriptor_size = u64::from(u32_at(notes, 4)?);
    u32_at(notes, 8)?;
    let name = range(notes, 12, name_size)?;
    let descriptor_at = (12 + name_size).next_multiple_of(align);
    let descriptor = range(notes, descriptor_at, descriptor_size)?;
    let next = usize::try_from((descriptor_at + descriptor_size).next_multiple_of(align)).ok()?;
    Some((name, descriptor, notes.get(next..).unwrap_or(&[])))
}
