//! Frames of the test link on the host's side ([`libpks::wire`]).

use std::collections::VecDeque;

use libpks::proto::testlink::MAX_BYTES;
use libpks::wire::{self, FrameReader, LinkError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It is no frame.
    #[error("{0}")]
    Frame(#[from] LinkError),
    /// It is a frame without a message of the kind that is expected.
    #[error("{0}")]
    Message(#[from] wire::WireError),
}

/// The bytes that carry `message`. A delimiter comes first, so that noise before it stays a frame of its own.
///
/// # Panics
/// When the message is larger than the protocol allows; the harness has no such message.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut payload = [0; MAX_BYTES];
    let used = wire::encode(message, &mut payload).expect("a message of the protocol fits");
    let mut bytes = vec![0; 1 + wire::frame_size(used)];
    let length =
        wire::encode_frame(&payload[..used], &mut bytes[1..]).expect("the buffer has the frame's size");
    bytes.truncate(1 + length);
    bytes
}

/// Cuts what comes in into messages.
#[derive(Debug, Default)]
pub struct Frames {
    reader: FrameReader<{ wire::frame_size(MAX_BYTES) }>,
    waiting: VecDeque<u8>,
}

impl Frames {
    /// Takes in what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// The next message, if a whole frame is there.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Option<Result<T, Damaged>> {
        while let Some(byte) = self.waiting.pop_front() {
            if let Some(frame) = self.reader.push(byte) {
                return Some(frame.map_err(Damaged::from).and_then(|payload| Ok(wire::decode(payload)?)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use libpks::abi::name;
    use libpks::proto::testlink::{Asked, Request};

    use super::*;

    fn asked(number: u32) -> Asked {
        Asked { number, request: Request::Run { name: name("S4_context_switch") } }
    }

    #[test]
    fn messages_survive_being_cut_anywhere() {
        let bytes = [encode(&asked(1)), encode(&asked(2))].concat();
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                frames.push(part);
                while let Some(message) = frames.next_message::<Asked>() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [Ok(asked(1)), Ok(asked(2))], "cut at {cut}");
        }
    }

    #[test]
    fn noise_costs_no_message_that_follows() {
        for noise in [b"x".as_slice(), &[0; 9], &[0xff; 10_000], b"\x05abc", b"\x02\x00\x03ab\x00"] {
            let mut frames = Frames::default();
            frames.push(noise);
            frames.push(&encode(&asked(7)));
            let seen: Vec<_> = std::iter::from_fn(|| frames.next_message::<Asked>()).collect();
            assert_eq!(seen.last(), Some(&Ok(asked(7))), "{noise:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_never_a_message() {
        let good = encode(&asked(3));
        for (at, bit) in (1..good.len() - 1).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Some(message) = frames.next_message::<Asked>() {
                assert!(message.is_err(), "byte {at}, bit {bit}");
            }
        }
    }
}
