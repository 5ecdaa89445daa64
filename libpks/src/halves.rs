//! A record that survives whoever writes it: it is kept in two halves of a piece of memory, and the older one is written
//! over, so that a writer that dies midway leaves the newer one whole.
//!
//! A half begins with 24 bytes, all little-endian: a count of the records written (u64), the length of the record
//! (u32), a magic number (u32), the CRC-32 of all that and of the record (u32), four zeros. The head of a half is
//! written last. Memory that was never written is all zeros.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crc::{CRC_32_ISO_HDLC, Crc};

const CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const MAGIC: u32 = 0x4c57_544f;
/// Bytes of a half's head.
pub const HEAD_BYTES: u64 = 24;

/// What the halves lie in.
pub trait Memory {
    /// Why an access failed.
    type Error;

    /// Its length in bytes.
    fn bytes(&self) -> u64;

    /// Copies bytes out.
    ///
    /// # Errors
    /// What the memory says.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Copies bytes in.
    ///
    /// # Errors
    /// What the memory says.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Self::Error>;
}

/// Why there is no record, or none was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HalvesError<E> {
    /// The memory cannot be reached.
    #[error("{0}")]
    Memory(#[from] E),
    /// A record was written, and neither half is whole.
    #[error("neither half is whole")]
    Damaged,
    /// The record does not fit a half.
    #[error("a record of {0} bytes does not fit")]
    TooLarge(usize),
}

/// A record in two halves.
#[derive(Debug)]
pub struct Halves<M> {
    memory: M,
    /// Records written so far.
    written: u64,
    /// Where the next one goes: 0 or 1.
    next: u64,
}

/// A record in two halves, and what was found there.
pub type Opened<M> = (Halves<M>, Option<Vec<u8>>);

/// The head of a half.
#[derive(Clone, Copy)]
struct Head {
    written: u64,
    length: u32,
    check: u32,
}

impl Head {
    fn of(written: u64, record: &[u8]) -> Self {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        let mut head = Self { written, length, check: 0 };
        head.check = head.expected(record);
        head
    }

    fn expected(&self, record: &[u8]) -> u32 {
        let mut digest = CHECK.digest();
        digest.update(&self.written.to_le_bytes());
        digest.update(&self.length.to_le_bytes());
        digest.update(record);
        digest.finalize()
    }

    fn to_bytes(self) -> [u8; HEAD_BYTES as usize] {
        let mut bytes = [0; HEAD_BYTES as usize];
        bytes[..8].copy_from_slice(&self.written.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    /// `None` without the magic number.
    fn from_bytes(bytes: &[u8; HEAD_BYTES as usize]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let written = u64::from(word(0)) | u64::from(word(4)) << 32;
        (word(12) == MAGIC).then_some(Self { written, length: word(8), check: word(16) })
    }
}

impl<M: Memory> Halves<M> {
    /// Looks what is there: gives the newest record that is whole, or `None` if none was ever written.
    ///
    /// # Errors
    /// [`HalvesError::Damaged`], or what the memory says.
    pub fn open(memory: M) -> Result<Opened<M>, HalvesError<M::Error>> {
        let mut halves = Self { memory, written: 0, next: 0 };
        let mut newest = None;
        // With a half that was never written, the other one's first record may have been cut off.
        let mut blank = false;
        for half in 0..2 {
            let mut bytes = [0; HEAD_BYTES as usize];
            halves.memory.read(halves.start(half), &mut bytes)?;
            blank |= bytes.iter().all(|&byte| byte == 0);
            let Some(head) = Head::from_bytes(&bytes) else { continue };
            if u64::from(head.length) > halves.room() || head.written <= halves.written {
                continue;
            }
            let mut record = vec![0; head.length as usize];
            halves.memory.read(halves.start(half) + HEAD_BYTES, &mut record)?;
            if head.expected(&record) == head.check {
                (halves.written, halves.next) = (head.written, 1 - half);
                newest = Some(record);
            }
        }
        match newest {
            None if !blank => Err(HalvesError::Damaged),
            newest => Ok((halves, newest)),
        }
    }

    /// Writes a record in the place of the older one.
    ///
    /// # Errors
    /// [`HalvesError::TooLarge`], or what the memory says; the newest record is then the one before.
    pub fn write(&mut self, record: &[u8]) -> Result<(), HalvesError<M::Error>> {
        if record.len() as u64 > self.room() {
            return Err(HalvesError::TooLarge(record.len()));
        }
        let head = Head::of(self.written + 1, record);
        let start = self.start(self.next);
        self.memory.write(start + HEAD_BYTES, record)?;
        self.memory.write(start, &head.to_bytes())?;
        (self.written, self.next) = (head.written, 1 - self.next);
        Ok(())
    }

    /// The memory.
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    fn start(&self, half: u64) -> u64 {
        half * (self.memory.bytes() / 2)
    }

    /// Bytes that a record may have.
    fn room(&self) -> u64 {
        (self.memory.bytes() / 2).saturating_sub(HEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;
    use proptest::prelude::*;

    /// Memory whose writer dies after so many bytes.
    struct Mortal<'a> {
        bytes: &'a RefCell<Vec<u8>>,
        left: usize,
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Died;

    impl Memory for Mortal<'_> {
        type Error = Died;

        fn bytes(&self) -> u64 {
            self.bytes.borrow().len() as u64
        }

        fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Died> {
            let offset = offset as usize;
            into.copy_from_slice(&self.bytes.borrow()[offset..offset + into.len()]);
            Ok(())
        }

        fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Died> {
            let count = from.len().min(self.left);
            self.left -= count;
            let offset = offset as usize;
            self.bytes.borrow_mut()[offset..offset + count].copy_from_slice(&from[..count]);
            if count == from.len() { Ok(()) } else { Err(Died) }
        }
    }

    fn open(bytes: &RefCell<Vec<u8>>, left: usize) -> (Halves<Mortal<'_>>, Option<Vec<u8>>) {
        Halves::open(Mortal { bytes, left }).expect("whole")
    }

    #[test]
    fn fresh_memory_has_no_record_and_the_newest_comes_back() {
        let bytes = RefCell::new(vec![0; 200]);
        let (mut halves, found) = open(&bytes, usize::MAX);
        assert_eq!(found, None);
        for record in [b"one".as_slice(), b"", b"three", &[7; 76]] {
            halves.write(record).expect("fits");
            assert_eq!(open(&bytes, 0).1.as_deref(), Some(record));
        }
        assert!(matches!(halves.write(&[0; 77]), Err(HalvesError::TooLarge(77))));
        assert_eq!(open(&bytes, 0).1, Some(vec![7; 76]));
    }

    #[test]
    fn a_writer_that_dies_at_any_byte_leaves_one_of_the_two_records() {
        let (first, second) = (vec![1; 50], vec![2; 60]);
        let head = HEAD_BYTES as usize;
        // The one who dies may have written the record before, or have found it.
        for (dies_at, wrote_both) in (0..60 + head).flat_map(|at| [(at, false), (at, true)]) {
            let bytes = RefCell::new(vec![0; 200]);
            let mut writer = open(&bytes, if wrote_both { 50 + head + dies_at } else { usize::MAX }).0;
            writer.write(&first).expect("fits");
            if !wrote_both {
                writer = open(&bytes, dies_at).0;
            }
            assert!(writer.write(&second).is_err(), "{dies_at}");
            let found = open(&bytes, 0).1.expect("a record");
            // Only the four zeros at the head's end change nothing.
            let complete = dies_at >= 60 + 20;
            assert_eq!(found, if complete { second.clone() } else { first.clone() }, "{dies_at}");
            // And the next writer goes on from there.
            open(&bytes, usize::MAX).0.write(b"third").expect("fits");
            assert_eq!(open(&bytes, 0).1.as_deref(), Some(b"third".as_slice()));
        }
    }

    #[test]
    fn the_first_writer_may_die_too() {
        for dies_at in 0..10 + 20 {
            let bytes = RefCell::new(vec![0; 200]);
            assert!(open(&bytes, dies_at).0.write(&[3; 10]).is_err());
            assert_eq!(open(&bytes, 0).1, None, "{dies_at}");
        }
    }

    #[test]
    fn two_damaged_halves_are_an_error() {
        let bytes = RefCell::new(vec![0; 200]);
        let mut halves = open(&bytes, usize::MAX).0;
        halves.write(b"one").expect("fits");
        halves.write(b"two").expect("fits");
        for half in [0, 100] {
            bytes.borrow_mut()[half + HEAD_BYTES as usize] ^= 1;
        }
        let outcome = Halves::open(Mortal { bytes: &bytes, left: 0 }).map(|(_, found)| found);
        assert_eq!(outcome, Err(HalvesError::Damaged));
    }

    proptest! {
        #[test]
        fn noise_is_never_a_record(noise in proptest::collection::vec(any::<u8>(), 64..300)) {
            let bytes = RefCell::new(noise);
            let outcome = Halves::open(Mortal { bytes: &bytes, left: 0 }).map(|(_, found)| found);
            prop_assert_eq!(outcome, Err(HalvesError::Damaged));
        }
    }
}
