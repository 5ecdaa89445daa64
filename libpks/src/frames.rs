//! Bookkeeping of physical frames: one bit a frame.
//!
//! The kernel puts the words into memory that it found itself and gives them all of the machine's frame
//! numbers from 0 on; what is not there stays "in use" for ever. Frames are numbers here (physical address
//! divided by the frame size); nothing is read or written but the words.
#![forbid(unsafe_code)]

use core::ops::Range;

/// Frames in one word.
const BITS: u64 = u64::BITS as u64;

/// Why a frame was not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame number is beyond the bitmap.
    #[error("frame {0:#x} is out of range")]
    OutOfRange(u64),
    /// The frame is free already.
    #[error("frame {0:#x} is free already")]
    DoubleFree(u64),
}

/// Which frames are free; a set bit is a free frame.
#[derive(Debug)]
pub struct FrameBitmap<'a> {
    words: &'a mut [u64],
    free: u64,
    /// No word below this one has a free frame.
    lowest: usize,
}

impl<'a> FrameBitmap<'a> {
    /// Frames 0 to 64 × `words.len()`, all in use.
    pub fn new(words: &'a mut [u64]) -> Self {
        words.fill(0);
        Self { words, free: 0, lowest: 0 }
    }

    /// The same frames in words that say already which are free, such as those of another bitmap that are now
    /// seen at another address.
    pub fn adopt(words: &'a mut [u64]) -> Self {
        let free = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words, free, lowest: 0 }
    }

    /// How many frames the bitmap knows of.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.words.len() as u64 * BITS
    }

    /// How many frames are free.
    #[must_use]
    pub const fn free_count(&self) -> u64 {
        self.free
    }

    /// Whether a frame is free; `None` beyond the bitmap.
    #[must_use]
    pub fn is_free(&self, frame: u64) -> Option<bool> {
        Some(self.words.get(word_of(frame)?)? & bit(frame) != 0)
    }

    /// Makes a range of usable memory free, at start-up. Frames in it that are free already stay so, since
    /// memory maps of firmware may overlap. Gives how many became free.
    ///
    /// # Errors
    /// [`FrameError::OutOfRange`] with the end of the range; nothing is changed.
    pub fn release_range(&mut self, range: Range<u64>) -> Result<u64, FrameError> {
        self.change_range(range, |word, mask| *word |= mask)?;
        self.lowest = 0;
        Ok(self.recount(u64::saturating_sub))
    }

    /// Takes a range out of use, at start-up; parts of it may be in use. Gives how many were free.
    ///
    /// # Errors
    /// [`FrameError::OutOfRange`] with the end of the range; nothing is changed.
    pub fn reserve_range(&mut self, range: Range<u64>) -> Result<u64, FrameError> {
        self.change_range(range, |word, mask| *word &= !mask)?;
        Ok(self.recount(|now, before| before.saturating_sub(now)))
    }

    /// Hands out the lowest frame that is free; `None` when all are in use. What comes and goes stays within few frames
    /// so, and what is kept for each large page that frames were taken from does not grow with time.
    pub fn allocate(&mut self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let found = self.words.iter().enumerate().skip(self.lowest).find(|(_, word)| **word != 0);
        let (index, word) = found?;
        let frame = index as u64 * BITS + u64::from(word.trailing_zeros());
        *self.words.get_mut(index)? &= !bit(frame);
        self.free -= 1;
        self.lowest = index;
        Some(frame)
    }

    /// Hands out `count` frames in a row, the first a multiple of `align`, all below frame `below` if given;
    /// the lowest that there are. `None` if there are none, or for a count or alignment of 0.
    pub fn allocate_contiguous(&mut self, count: u64, align: u64, below: Option<u64>) -> Option<u64> {
        if count == 0 || align == 0 {
            return None;
        }
        let end = below.unwrap_or(u64::MAX).min(self.frames());
        let mut first = 0_u64;
        while first.checked_add(count)? <= end {
            match self.last_used(first..first + count) {
                None => {
                    self.change_range(first..first + count, |word, mask| *word &= !mask).ok()?;
                    self.free -= count;
                    return Some(first);
                }
                Some(used) => first = (used + 1).checked_next_multiple_of(align)?,
            }
        }
        None
    }

    /// Takes a frame back.
    ///
    /// # Errors
    /// [`FrameError::OutOfRange`], or [`FrameError::DoubleFree`] if it was not handed out.
    pub fn release(&mut self, frame: u64) -> Result<(), FrameError> {
        let out_of_range = FrameError::OutOfRange(frame);
        let index = word_of(frame).ok_or(out_of_range)?;
        let word = self.words.get_mut(index).ok_or(out_of_range)?;
        if *word & bit(frame) != 0 {
            return Err(FrameError::DoubleFree(frame));
        }
        *word |= bit(frame);
        self.free += 1;
        self.lowest = self.lowest.min(index);
        Ok(())
    }

    /// The highest frame in use in a range that lies in the bitmap.
    fn last_used(&self, range: Range<u64>) -> Option<u64> {
        masks(range).rev().find_map(|(index, mask)| {
            let used = !self.words.get(index)? & mask;
            (used != 0).then(|| index as u64 * BITS + u64::from(used.ilog2()))
        })
    }

    /// Applies `change` to every word of a range, with the bits of the range in that word.
    fn change_range(&mut self, range: Range<u64>, change: impl Fn(&mut u64, u64)) -> Result<(), FrameError> {
        if range.end > self.frames() {
            return Err(FrameError::OutOfRange(range.end));
        }
        for (index, mask) in masks(range) {
            if let Some(word) = self.words.get_mut(index) {
                change(word, mask);
            }
        }
        Ok(())
    }

    /// Counts the free frames anew; gives the difference of the new and the old count.
    fn recount(&mut self, difference: impl Fn(u64, u64) -> u64) -> u64 {
        let now = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        difference(now, core::mem::replace(&mut self.free, now))
    }
}

/// The words of a range of frames, each with the bits that belong to the range.
fn masks(range: Range<u64>) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let words = range.start / BITS..range.end.div_ceil(BITS);
    words.filter_map(move |word| {
        let base = word * BITS;
        let low = range.start.saturating_sub(base);
        let high = (range.end - base).min(BITS);
        let bits = high.checked_sub(low).filter(|bits| *bits > 0)?;
        let mask = (u64::MAX >> (BITS - bits)) << low;
        Some((usize::try_from(word).ok()?, mask))
    })
}

fn word_of(frame: u64) -> Option<usize> {
    usize::try_from(frame / BITS).ok()
}

const fn bit(frame: u64) -> u64 {
    1 << (frame % BITS)
}
