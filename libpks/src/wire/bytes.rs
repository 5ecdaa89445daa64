//! Bytes of a message as bytes: `#[serde(with = "libpks::wire::bytes")]` on a [`heapless::Vec`] of them.
//!
//! Without it serde encodes and decodes each of them by itself, which costs some fifty instructions a byte. What is on the wire
//! is the same. For `alloc`'s vectors there is the crate `serde_bytes`.

use core::fmt;
use heapless::Vec;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Encodes them all at once.
///
/// # Errors
/// What the encoder says.
pub fn serialize<S: Serializer, const N: usize>(bytes: &Vec<u8, N>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

/// Decodes them all at once.
///
/// # Errors
/// When there are more than `N`, and what the decoder says.
pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<Vec<u8, N>, D::Error> {
    from.deserialize_bytes(Bytes)
}

struct Bytes<const N: usize>;

impl<const N: usize> Visitor<'_> for Bytes<N> {
    type Value = Vec<u8, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes at most")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8, N>, E> {
        Vec::from_slice(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fast<const N: usize>(#[serde(with = "super")] Vec<u8, N>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Slow(Vec<u8, 300>);

    #[test]
    fn what_is_on_the_wire_is_the_same() {
        for length in [0, 1, 127, 128, 300] {
            let bytes: Vec<u8, 300> = (0..length).map(|n| n as u8).collect();
            let (mut one, mut other) = ([0; 320], [0; 320]);
            let fast = encode(&Fast(bytes.clone()), &mut one).expect("room");
            let slow = encode(&Slow(bytes.clone()), &mut other).expect("room");
            assert_eq!(one[..fast], other[..slow], "{length}");
            assert_eq!(decode::<Fast<300>>(&one[..fast]), Ok(Fast(bytes)));
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let mut room = [0; 32];
        let nine = Fast::<9>(Vec::from_slice(&[7; 9]).expect("nine"));
        let length = encode(&nine, &mut room).expect("room");
        assert!(decode::<Fast<8>>(&room[..length]).is_err());
        assert_eq!(decode::<Fast<9>>(&room[..length - 1]), Err(crate::wire::WireError::Truncated));
    }
}
