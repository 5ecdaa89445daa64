//! Endpoints: where calls are made.
#![forbid(unsafe_code)]

use super::gate::{self, Registers, syscall};
use super::handle::{Capability, Owned, capabilities};
use super::time::{Instant, deadline_word};
use crate::abi::message::{Info, MAX_TRANSFERS, Transfer, TransferMode, WORDS};
use crate::abi::{Error, Syscall};
use crate::cap::{Handle, ObjectKind};

capabilities! {
    /// Where a server is called. Typed calls go through [`Client`](super::Client).
    Endpoint, Some(ObjectKind::Endpoint);
}

impl Endpoint {
    /// Makes an endpoint, with all rights to it.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub fn create() -> Result<Owned<Self>, Error> {
        Ok(Owned::from_word(syscall(Syscall::EndpointCreate, [])?.words[0]))
    }

    /// Calls with eight words that no protocol interprets, for a
    /// [`WordServer`](super::serve::WordServer). The deadline counts until the call is accepted.
    ///
    /// # Errors
    /// What the kernel says of the call; [`Error::BadMessage`] if the answer is not of this sort.
    pub fn call_words(self, words: [u64; WORDS], deadline: Option<Instant>) -> Result<[u64; WORDS], Error> {
        let info = Info::default();
        let registers = Registers { words, info, target: self.word(), extra: deadline_word(deadline) };
        let answer = gate::call(registers)?;
        if answer.info != info {
            drop(received(&answer));
            return Err(Error::BadMessage);
        }
        Ok(answer.words)
    }
}

/// A capability that goes with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    handle: Handle,
    transfer: Transfer,
}

impl Offer {
    /// The receiver gets one derived from it; needs the right to grant.
    pub fn copy(capability: impl Capability) -> Self {
        Self::new(capability, TransferMode::Copy)
    }

    /// The receiver has it until it replies.
    pub fn lend(capability: impl Capability) -> Self {
        Self::new(capability, TransferMode::Lend)
    }

    /// It becomes the receiver's. If that does not take the message, or is not there any more, it is deleted.
    pub fn hand_over<T: Capability>(capability: Owned<T>) -> Self {
        Self::new(capability.keep(), TransferMode::Move)
    }

    /// The same without the right to write.
    pub fn read_only(mut self) -> Self {
        self.transfer.read_only = true;
        self
    }

    fn new(capability: impl Capability, mode: TransferMode) -> Self {
        Self { handle: capability.handle(), transfer: Transfer { mode, read_only: false } }
    }
}

/// Puts `offers` into the last words, and says so in the information word.
pub(super) fn offer(words: &mut [u64; WORDS], mut info: Info, offers: &[Offer]) -> Result<Info, Error> {
    for (n, offer) in offers.iter().enumerate() {
        info = info.with_transfer(offer.transfer).ok_or(Error::TooLarge)?;
        *words.get_mut(Transfer::word(n)).ok_or(Error::TooLarge)? = offer.handle.raw();
    }
    Ok(info)
}

/// Deletes what a message that was refused was to hand over: whoever wrote the message holds it no longer.
pub(super) fn delete_moves(registers: &Registers) {
    for n in 0..registers.info.capabilities() {
        let moves = registers.info.transfer(n).is_some_and(|transfer| transfer.mode == TransferMode::Move);
        if let Some(&word) = registers.words.get(Transfer::word(n)).filter(|_| moves) {
            drop(Owned::<super::AnyCap>::from_word(word));
        }
    }
}

/// Capabilities that came with a message, in the order of the sender's offers.
pub type Received = heapless::Vec<Owned<super::AnyCap>, MAX_TRANSFERS>;

pub(super) fn received(registers: &Registers) -> Received {
    let count = registers.info.capabilities().min(MAX_TRANSFERS);
    registers.words.iter().rev().take(count).map(|&word| Owned::from_word(word)).collect()
}
