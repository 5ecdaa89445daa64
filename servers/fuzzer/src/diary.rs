//! What a worker writes down of its calls, for the judge to read when the worker is no more: a page of slots, one for each
//! thread that makes calls.
#![forbid(unsafe_code)]

use libpks::abi::Error;
use libpks::proto::fuzzer::Outcomes;
use libpks::rt::unguarded::Unguarded;

/// Bytes of the diary.
pub(crate) const BYTES: u64 = 4096;
/// Slots in it.
pub(crate) const SLOTS: u64 = 8;
const SLOT_BYTES: u64 = BYTES / SLOTS;

/// Places in a slot, in words.
const BEGUN: u64 = 0;
const ENDED: u64 = 1;
const LAST: u64 = 2;
const OUTCOMES: u64 = 3;
const BROKEN: u64 = OUTCOMES + 32;

/// The notes of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notes {
    page: Unguarded,
    slot: u64,
}

impl Notes {
    /// The notes in a slot; `None` past the last.
    pub(crate) fn new(page: Unguarded, slot: u64) -> Option<Self> {
        (slot < SLOTS).then_some(Self { page, slot })
    }

    fn read(&self, word: u64) -> Result<u64, Error> {
        self.page.read_u64(self.slot * SLOT_BYTES + word * 8)
    }

    fn write(&self, word: u64, value: u64) -> Result<(), Error> {
        self.page.write_u64(self.slot * SLOT_BYTES + word * 8, value)
    }

    fn count(&self, word: u64) -> Result<(), Error> {
        self.write(word, self.read(word)?.wrapping_add(1))
    }

    /// A call begins; `what` says which.
    pub(crate) fn begin(&self, what: u64) -> Result<(), Error> {
        self.write(LAST, what)?;
        self.count(BEGUN)
    }

    /// It came back with this code, which it may or may not come back with.
    pub(crate) fn end(&self, what: u64, code: u32, promised: bool) -> Result<(), Error> {
        self.count(OUTCOMES + u64::from(code.min(31)))?;
        if !promised && self.read(BROKEN)? == 0 {
            self.write(BROKEN, (what << 32 | u64::from(code)).max(1))?;
        }
        self.count(ENDED)
    }

    /// Calls that have begun, and those that came back.
    pub(crate) fn calls(&self) -> Result<(u64, u64), Error> {
        Ok((self.read(BEGUN)?, self.read(ENDED)?))
    }

    /// The call that was made last.
    pub(crate) fn last(&self) -> Result<u64, Error> {
        self.read(LAST)
    }

    /// The first call that came back with what no page of the ABI promises, and with which code.
    pub(crate) fn broken(&self) -> Result<Option<(u64, u32)>, Error> {
        let word = self.read(BROKEN)?;
        Ok((word != 0).then_some((word >> 32, word as u32)))
    }

    /// Adds the outcomes to a sum.
    pub(crate) fn add_outcomes(&self, sum: &mut Outcomes) -> Result<(), Error> {
        for (count, word) in sum.iter_mut().zip(OUTCOMES..) {
            *count = count.saturating_add(u32::try_from(self.read(word)?).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}
