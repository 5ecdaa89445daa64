//! Bounds-checked little-endian reads.
#![forbid(unsafe_code)]

/// `len` bytes from `offset` on, if the slice has them.
pub(super) fn range(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    bytes.get(start..end)
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Stores what may be given once only.
pub(super) fn once<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), super::ElfError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(super::ElfError::Duplicate(what)),
    }
}
