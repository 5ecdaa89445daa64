//! How messages become bytes: postcard in IPC buffers, and frames on the serial test link.
//!
//! Bytes that come in are somebody else's: decoding never panics, says what is wrong, and takes a message only
//! if it used up every byte.
#![forbid(unsafe_code)]

pub mod bytes;
mod frame;

pub use frame::{FrameReader, LinkError, encode_frame, frame_size};

use serde::{Deserialize, Serialize};

/// Why a message could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message does not fit the buffer.
    #[error("message does not fit the buffer")]
    TooLarge,
    /// The value has no encoding (a sequence of unknown length).
    #[error("value has no encoding")]
    Unencodable,
    /// There is no message: not one byte.
    #[error("message is empty")]
    Empty,
    /// The bytes end in the middle of the message.
    #[error("message is cut off")]
    Truncated,
    /// The bytes are no message of this type.
    #[error("message is malformed")]
    Malformed,
    /// A message, and then this many bytes more.
    #[error("{0} bytes after the message")]
    Trailing(usize),
}

/// Encodes `value` at the start of `buffer`; gives the length in bytes.
///
/// # Errors
/// [`WireError::TooLarge`], [`WireError::Unencodable`].
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut [u8]) -> Result<usize, WireError> {
    match postcard::to_slice(value, buffer) {
        Ok(used) => Ok(used.len()),
        Err(postcard::Error::SerializeBufferFull) => Err(WireError::TooLarge),
        Err(_) => Err(WireError::Unencodable),
    }
}

/// Decodes a message that takes up all of `bytes`.
///
/// # Errors
/// [`WireError::Empty`], [`WireError::Truncated`], [`WireError::Malformed`], [`WireError::Trailing`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(WireError::Trailing(rest.len())),
        Err(_) if bytes.is_empty() => Err(WireError::Empty),
        Err(postcard::Error::DeserializeUnexpectedEnd) => Err(WireError::Truncated),
        Err(_) => Err(WireError::Malformed),
    }
}
