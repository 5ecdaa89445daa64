//! Frames on a byte stream that may lose or garble bytes.
//!
//! A frame is the payload and its CRC-32 (ISO-HDLC, little-endian), both in COBS, and a zero byte. No other
//! zero byte occurs, so after any disturbance a reader is in step again at the next one.
#![forbid(unsafe_code)]

use cobs::{CobsEncoder, decode_in_place, max_encoding_length};
use crc::{CRC_32_ISO_HDLC, Crc};
use heapless::Vec;

const CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// Size in bytes of the check value.
const CHECK_SIZE: usize = 4;
/// Ends a frame.
const DELIMITER: u8 = 0;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The frame does not fit the buffer.
    #[error("frame does not fit the buffer")]
    TooLarge,
    /// The frame is not COBS, or too short to hold a check value.
    #[error("frame is malformed")]
    Malformed,
    /// The check value is not that of the payload.
    #[error("frame is corrupt")]
    Corrupt,
}

/// The most bytes that the frame of a payload of `payload` bytes takes.
#[must_use]
pub const fn frame_size(payload: usize) -> usize {
    max_encoding_length(payload + CHECK_SIZE) + 1
}

/// Makes a frame of `payload` at the start of `buffer`; gives its length, delimiter included.
///
/// # Errors
/// [`LinkError::TooLarge`] if `buffer` is shorter than [`frame_size`] of the payload.
pub fn encode_frame(payload: &[u8], buffer: &mut [u8]) -> Result<usize, LinkError> {
    if buffer.len() < frame_size(payload.len()) {
        return Err(LinkError::TooLarge);
    }
    let mut encoder = CobsEncoder::new(buffer);
    encoder.push(payload).map_err(|_| LinkError::TooLarge)?;
    encoder.push(&CHECK.checksum(payload).to_le_bytes()).map_err(|_| LinkError::TooLarge)?;
    let end = encoder.finalize();
    *buffer.get_mut(end).ok_or(LinkError::TooLarge)? = DELIMITER;
    Ok(end + 1)
}

/// Cuts a byte stream into frames of at most `N` encoded bytes.
///
/// Starts in step. A reader that joins in the middle of a frame reports one error, then is in step.
#[derive(Debug, Default)]
pub struct FrameReader<const N: usize> {
    buffer: Vec<u8, N>,
    /// `buffer` holds a frame that was given out.
    delivered: bool,
    /// The frame is longer than the buffer; its rest is skipped.
    overflow: bool,
}

impl<const N: usize> FrameReader<N> {
    /// A reader that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), delivered: false, overflow: false }
    }

    /// Takes the next byte of the stream. Gives the payload when the byte ends a frame, or what was wrong
    /// with the frame; `None` in between. Delimiters without a frame between them are skipped.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], LinkError>> {
        if core::mem::take(&mut self.delivered) {
            self.buffer.clear();
        }
        if byte != DELIMITER {
            self.overflow |= self.buffer.push(byte).is_err();
            return None;
        }
        if self.buffer.is_empty() && !self.overflow {
            return None;
        }
        self.delivered = true;
        if core::mem::take(&mut self.overflow) {
            return Some(Err(LinkError::TooLarge));
        }
        Some(open(&mut self.buffer))
    }
}

/// Decodes a frame without its delimiter in place and checks it.
fn open(frame: &mut [u8]) -> Result<&[u8], LinkError> {
    let length = decode_in_place(frame).map_err(|_| LinkError::Malformed)?;
    let decoded = frame.get(..length).ok_or(LinkError::Malformed)?;
    let (payload, check) = decoded.split_last_chunk::<CHECK_SIZE>().ok_or(LinkError::Malformed)?;
    if CHECK.checksum(payload) == u32::from_le_bytes(*check) { Ok(payload) } else { Err(LinkError::Corrupt) }
}
