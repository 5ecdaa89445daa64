//! Typed calls.
#![forbid(unsafe_code)]

use super::endpoint::{Endpoint, Offer, Received, delete_moves, offer, received};
use super::gate::{self, Registers};
use super::time::{Instant, deadline_word};
use super::{buffer, envelope};
use crate::abi::Error;
use crate::abi::layout::IPC_BUFFER_BYTES;
use crate::abi::message::Info;
use crate::proto::Protocol;
use crate::retry::{Retry, Verdict};
use alloc::vec;
use core::marker::PhantomData;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a call gave no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The kernel could not bring the call to an end. Unless the error is [`Error::PeerDiedMidCall`], the server has
    /// not seen the request.
    #[error("call failed: {0}")]
    Failed(Error),
    /// The server's runtime could not read the request or not send the reply.
    #[error("server refused: {0}")]
    Refused(Error),
    /// The request has killed its server so many times, and is not sent again.
    #[error("the request has killed its server {0} times")]
    Killer(u32),
    /// The reply is not what the protocol says.
    #[error("malformed reply")]
    BadReply,
}

/// An endpoint where protocol `P` is spoken.
#[derive(Debug)]
pub struct Client<P> {
    endpoint: Endpoint,
    protocol: PhantomData<fn() -> P>,
}

impl<P> Clone for Client<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Client<P> {}

impl<P: Protocol> Client<P> {
    /// Believes that the endpoint's server speaks `P`.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, protocol: PhantomData }
    }

    /// The endpoint that is called.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Calls the server, waiting as long as it takes.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, request: &P::Request) -> Result<P::Reply, CallError> {
        self.exchange(request, &[], None).map(|(reply, _)| reply)
    }

    /// The same; [`Error::TimedOut`] if the server has not accepted the call at `deadline`. An accepted call is not
    /// broken off.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call_until(&self, request: &P::Request, deadline: Instant) -> Result<P::Reply, CallError> {
        self.exchange(request, &[], Some(deadline)).map(|(reply, _)| reply)
    }

    /// Calls the server, and again if it dies and that is allowed ([`Retry`]): one that dies before it sees the request,
    /// and one that may have carried it out if [`Protocol::repetition`] says that this is harmless. It waits in the
    /// call until the server was started again, as long as that takes or until `deadline`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call_patiently(
        &self,
        request: &P::Request,
        deadline: Option<Instant>,
    ) -> Result<P::Reply, CallError> {
        let mut retry = Retry::new(P::repetition(request));
        loop {
            let error = match self.exchange(request, &[], deadline) {
                Ok((reply, _)) => return Ok(reply),
                Err(CallError::Failed(error)) => error,
                Err(other) => return Err(other),
            };
            match retry.after(error) {
                Verdict::Again => {}
                Verdict::Fail(error) => return Err(CallError::Failed(error)),
                Verdict::Killer(deaths) => return Err(CallError::Killer(deaths)),
            }
        }
    }

    /// Calls with capabilities, and takes those that come with the reply.
    ///
    /// # Errors
    /// [`CallError`]; [`Error::TooLarge`] if request or offers do not fit.
    pub fn exchange(
        &self,
        request: &P::Request,
        offers: &[Offer],
        deadline: Option<Instant>,
    ) -> Result<(P::Reply, Received), CallError> {
        let mut registers = write(request, offers).map_err(CallError::Failed)?;
        registers.target = self.endpoint.word();
        registers.extra = deadline_word(deadline);
        // A call that was accepted has taken them along, and their handles name nothing here.
        let answer =
            gate::call(registers).inspect_err(|_| delete_moves(&registers)).map_err(CallError::Failed)?;
        // First of all, so that they are deleted should the reply be no good.
        let capabilities = received(&answer);
        match read::<Result<P::Reply, Error>>(&answer) {
            Ok(Ok(reply)) => Ok((reply, capabilities)),
            Ok(Err(error)) => Err(CallError::Refused(error)),
            Err(_) => Err(CallError::BadReply),
        }
    }
}

/// Makes a message of `value`: in words if it fits, else in the IPC buffer.
pub(super) fn write<T: Serialize>(value: &T, offers: &[Offer]) -> Result<Registers, Error> {
    let (mut words, info) = match envelope::to_words(value, offers.len()) {
        Some(words) => (words, Info::default()),
        None => ([0; _], write_buffer(value)?),
    };
    let info = offer(&mut words, info, offers)?;
    Ok(Registers { words, info, ..Registers::default() })
}

/// On its own, so that short messages do not pay for the page on the stack.
#[inline(never)]
fn write_buffer<T: Serialize>(value: &T) -> Result<Info, Error> {
    let mut bytes = [0; IPC_BUFFER_BYTES];
    let length = envelope::to_bytes(value, &mut bytes)?;
    buffer::put(bytes.get(..length).unwrap_or(&[]))?;
    Info::new(length).ok_or(Error::TooLarge)
}

/// Reads a message that has just come in.
pub(super) fn read<T: DeserializeOwned>(registers: &Registers) -> Result<T, Error> {
    match registers.info.bytes() {
        0 => envelope::from_words(&registers.words, registers.info.capabilities()),
        length => {
            let mut bytes = vec![0; length.min(IPC_BUFFER_BYTES)];
            buffer::take(&mut bytes);
            envelope::from_bytes(&bytes)
        }
    }
}
