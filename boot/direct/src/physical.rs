//! Reading physical memory, as the parsers of firmware tables see it.

/// Physical memory that can be read. The parsers are given this, and not pointers, so that every
/// address in a firmware table is checked in one place and tests can supply tables of their own.
pub trait PhysicalMemory {
    /// The `len` bytes from physical address `address` on, or `None` if not all of them are within
    /// reach (null, above 4 GiB).
    fn bytes(&self, address: u64, len: usize) -> Option<&[u8]>;
}

/// The little-endian number of four bytes at `offset` in `bytes`.
pub(crate) fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The little-endian number of eight bytes at `offset` in `bytes`.
pub(crate) fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::PhysicalMemory;
    use std::vec::Vec;

    /// Memory made of a few pieces at chosen addresses.
    #[derive(Default)]
    pub(crate) struct Pieces(pub(crate) Vec<(u64, Vec<u8>)>);

    impl PhysicalMemory for Pieces {
        fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
            self.0.iter().find_map(|(base, data)| {
                let start = usize::try_from(address.checked_sub(*base)?).ok()?;
                data.get(start..start.checked_add(len)?)
            })
        }
    }
}
