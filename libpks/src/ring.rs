//! A ring: messages of a fixed number of words that go from one domain to another through memory that both can write, without
//! the kernel. One end sends, the other takes.
//!
//! Each end keeps its own count for itself and only tells it to the other, so what the other writes into the memory can
//! make it see made-up messages or more room than there is, and nothing else: places are masked, counts are checked, and
//! every word of a message is read once. `heapless::spsc` and its kin trust the counts in memory and hand out references into
//! it; between domains that do not trust each other neither will do (docs/ipc.md).
//!
//! An end that finds nothing to do can wait: it says so in the memory and looks once more, and the other end, when it has done
//! something, looks whether somebody waits and wakes it. Between saying and looking each has a full fence, so one of the two
//! sees the other (`tests/loom`).
//!
//! | word | whose | what |
//! |---|---|---|
//! | 0 | sender's | messages sent so far |
//! | 1 | sender's, cleared by the other | whether it waits for room |
//! | 8 | receiver's | messages taken so far |
//! | 9 | receiver's, cleared by the other | whether it waits for a message |
//! | 16... | sender's | messages |
//!
//! Fresh memory, all zeros, is an empty ring. It lasts as long as its two ends: when one of them starts anew it takes new
//! memory.
#![forbid(unsafe_code)]

use thiserror::Error;

/// Messages sent.
const SENT: usize = 0;
/// Whether the sender waits.
const SENDER_WAITS: usize = 1;
/// Messages taken. On a cache line of its own.
const TAKEN: usize = 8;
/// Whether the receiver waits.
const RECEIVER_WAITS: usize = 9;
/// Words before the first message.
pub const HEADER: usize = 16;

/// Memory that another domain reads and writes at the same time.
///
/// A load is an acquire and a store a release: what was stored before a store is seen by whoever loads its value.
pub trait Words {
    /// How many words there are.
    fn count(&self) -> usize;

    /// The word at a place.
    ///
    /// # Panics
    /// Beyond [`count`](Self::count), as all of these.
    fn load(&self, at: usize) -> u64;

    /// Changes the word at a place.
    fn store(&self, at: usize, value: u64);

    /// Words from a place on, each read once.
    fn read<const N: usize>(&self, at: usize) -> [u64; N];

    /// Changes words from a place on.
    fn write<const N: usize>(&self, at: usize, words: &[u64; N]);

    /// Stores before it are seen by others before loads behind it are made.
    fn fence(&self);
}

/// What is wrong with a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RingError {
    /// The memory holds not even one message.
    #[error("the memory is too small for a ring")]
    TooSmall,
    /// The other end's count is impossible. This end's own state is unharmed.
    #[error("the other end's count is impossible")]
    Corrupt,
}

/// As many messages as fit, a power of two.
fn capacity<const N: usize>(words: &impl Words) -> Result<u64, RingError> {
    let room = words.count().checked_sub(HEADER).ok_or(RingError::TooSmall)?;
    let most = room.checked_div(N).unwrap_or(0);
    // The last power of two that is not above it.
    most.checked_ilog2().map(|power| 1 << power).ok_or(RingError::TooSmall)
}

/// Where a message lies.
const fn place<const N: usize>(count: u64, capacity: u64) -> usize {
    HEADER + (count & (capacity - 1)) as usize * N
}

/// The end that sends messages of `N` words.
#[derive(Debug)]
pub struct Sender<const N: usize, W> {
    words: W,
    capacity: u64,
    sent: u64,
    /// Places that were free when the receiver's count was last read, less what was sent since.
    room: u64,
}

impl<const N: usize, W: Words> Sender<N, W> {
    /// The sending end of an empty ring.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn new(words: W) -> Result<Self, RingError> {
        let capacity = capacity::<N>(&words)?;
        Ok(Self { words, capacity, sent: 0, room: capacity })
    }

    /// Sends a message, if there is room. Gives whether there was.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was sent then.
    #[inline]
    pub fn send(&mut self, message: &[u64; N]) -> Result<bool, RingError> {
        if self.room == 0 {
            self.room = self.look()?;
            if self.room == 0 {
                return Ok(false);
            }
        }
        self.words.write(place::<N>(self.sent, self.capacity), message);
        self.sent = self.sent.wrapping_add(1);
        self.room -= 1;
        self.words.store(SENT, self.sent);
        Ok(true)
    }

    /// Sends as many of the messages as there is room for, from the first one on, and tells the receiver of all of them at
    /// once. Gives how many.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was sent then.
    #[inline]
    pub fn send_batch(&mut self, messages: &[[u64; N]]) -> Result<usize, RingError> {
        if self.room < messages.len() as u64 {
            self.room = self.look()?;
        }
        let mut sent = self.sent;
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        for message in messages.iter().take(room) {
            self.words.write(place::<N>(sent, self.capacity), message);
            sent = sent.wrapping_add(1);
        }
        let many = sent.wrapping_sub(self.sent);
        self.room -= many;
        self.sent = sent;
        self.words.store(SENT, sent);
        Ok(many as usize)
    }

    /// The room that the receiver's count leaves.
    fn look(&self) -> Result<u64, RingError> {
        let under_way = self.sent.wrapping_sub(self.words.load(TAKEN));
        self.capacity.checked_sub(under_way).ok_or(RingError::Corrupt)
    }

    /// After something was sent: whether the receiver waits and is to be woken, which it then must be.
    pub fn must_wake(&self) -> bool {
        must_wake(&self.words, RECEIVER_WAITS)
    }

    /// Says that this end waits for room. Gives whether it may: if there is room by now it must not.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; it must not wait then.
    pub fn begin_to_wait(&self) -> Result<bool, RingError> {
        begin_to_wait(&self.words, SENDER_WAITS, || Ok(self.look()? == 0))
    }

    /// Says that it waits no more, whatever has woken it.
    pub fn stop_waiting(&self) {
        self.words.store(SENDER_WAITS, 0);
    }
}

/// The end that takes messages of `N` words.
#[derive(Debug)]
pub struct Receiver<const N: usize, W> {
    words: W,
    capacity: u64,
    taken: u64,
    /// Messages that were there when the sender's count was last read, less what was taken since.
    there: u64,
}

impl<const N: usize, W: Words> Receiver<N, W> {
    /// The taking end of an empty ring.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn new(words: W) -> Result<Self, RingError> {
        let capacity = capacity::<N>(&words)?;
        Ok(Self { words, capacity, taken: 0, there: 0 })
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was taken then.
    #[inline]
    pub fn take(&mut self) -> Result<Option<[u64; N]>, RingError> {
        if self.there == 0 {
            self.there = self.look()?;
            if self.there == 0 {
                return Ok(None);
            }
        }
        let message = self.words.read(place::<N>(self.taken, self.capacity));
        self.taken = self.taken.wrapping_add(1);
        self.there -= 1;
        self.words.store(TAKEN, self.taken);
        Ok(Some(message))
    }

    /// Takes as many messages as there are and fit, and tells the sender of all of them at once. Gives how many.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; nothing was taken then.
    #[inline]
    pub fn take_batch(&mut self, into: &mut [[u64; N]]) -> Result<usize, RingError> {
        if self.there < into.len() as u64 {
            self.there = self.look()?;
        }
        let mut taken = self.taken;
        let there = usize::try_from(self.there).unwrap_or(usize::MAX);
        for message in into.iter_mut().take(there) {
            *message = self.words.read(place::<N>(taken, self.capacity));
            taken = taken.wrapping_add(1);
        }
        let many = taken.wrapping_sub(self.taken);
        self.there -= many;
        self.taken = taken;
        self.words.store(TAKEN, taken);
        Ok(many as usize)
    }

    /// The messages that the sender's count says are there.
    fn look(&self) -> Result<u64, RingError> {
        let there = self.words.load(SENT).wrapping_sub(self.taken);
        if there > self.capacity { Err(RingError::Corrupt) } else { Ok(there) }
    }

    /// After something was taken: whether the sender waits and is to be woken, which it then must be.
    pub fn must_wake(&self) -> bool {
        must_wake(&self.words, SENDER_WAITS)
    }

    /// Says that this end waits for a message. Gives whether it may: if there is one by now it must not.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; it must not wait then.
    pub fn begin_to_wait(&self) -> Result<bool, RingError> {
        begin_to_wait(&self.words, RECEIVER_WAITS, || Ok(self.look()? == 0))
    }

    /// Says that it waits no more, whatever has woken it.
    pub fn stop_waiting(&self) {
        self.words.store(RECEIVER_WAITS, 0);
    }
}

fn must_wake(words: &impl Words, waits: usize) -> bool {
    // What was done is seen before the other's word is read: else both could miss each other.
    words.fence();
    let must = words.load(waits) != 0;
    if must {
        words.store(waits, 0);
    }
    must
}

fn begin_to_wait(
    words: &impl Words,
    waits: usize,
    is_idle_fn: impl FnOnce() -> Result<bool, RingError>,
) -> Result<bool, RingError> {
    words.store(waits, 1);
    // The other side of the fence in `must_wake`.
    words.fence();
    let idle = is_idle_fn();
    if idle != Ok(true) {
        words.store(waits, 0);
    }
    idle
}
