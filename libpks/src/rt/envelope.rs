//! How a typed message becomes words and bytes, and back.
//!
//! A message is encoded with postcard. If it fits it travels in registers: the message words, read as bytes in
//! little-endian order, hold its length in byte 0 and the message behind it. Otherwise [`Info::bytes`] is not 0 and
//! the IPC buffer holds it. Capabilities take words from the end, so fewer bytes fit next to them.
//!
//! A reply is encoded as `Result<Reply, Error>`: the runtime of a server answers what it cannot decode with
//! [`Error::Malformed`] and does not bother the server with it.
//!
//! Everything that comes from the other side is taken as hostile: a length that does not fit, bytes that are no
//! message and bytes left over are all [`Error::Malformed`].
//!
//! [`Info::bytes`]: crate::abi::message::Info::bytes
#![forbid(unsafe_code)]

use crate::abi::Error;
use crate::abi::message::{MAX_TRANSFERS, WORDS};
use serde::Serialize;
use serde::de::DeserializeOwned;

const BYTES: usize = WORDS * 8;

/// How long a message may be that travels in registers next to `capabilities` capabilities.
pub const fn inline_bytes(capabilities: usize) -> usize {
    let taken = if capabilities > MAX_TRANSFERS { MAX_TRANSFERS } else { capabilities };
    BYTES - taken * 8 - 1
}

/// The words that carry `value`; `None` if it does not fit into them. The words of the capabilities are 0.
pub fn to_words<T: Serialize + ?Sized>(value: &T, capabilities: usize) -> Option<[u64; WORDS]> {
    let mut bytes = [0; BYTES];
    let room = bytes.get_mut(1..=inline_bytes(capabilities))?;
    let length = postcard::to_slice(value, room).ok()?.len();
    bytes[0] = u8::try_from(length).ok()?;
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    Some(words)
}

/// Encodes `value` into `bytes` and tells how many it took.
///
/// # Errors
/// [`Error::TooLarge`] if it does not fit.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T, bytes: &mut [u8]) -> Result<usize, Error> {
    postcard::to_slice(value, bytes).map(|used| used.len()).map_err(|_| Error::TooLarge)
}

/// Decodes what came in words.
///
/// # Errors
/// [`Error::Malformed`].
pub fn from_words<T: DeserializeOwned>(words: &[u64; WORDS], capabilities: usize) -> Result<T, Error> {
    let mut bytes = [0; BYTES];
    for (chunk, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    let length = usize::from(bytes[0]);
    if length > inline_bytes(capabilities) {
        return Err(Error::Malformed);
    }
    from_bytes(bytes.get(1..=length).unwrap_or(&[]))
}

/// Decodes what came in bytes, all of them.
///
/// # Errors
/// [`Error::Malformed`].
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    type Text = heapless::String<80>;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    enum Request {
        Nothing,
        Say(Text),
        Pair(u64, i8),
    }

    fn text(length: usize) -> Text {
        (0..length).map(|n| char::from(b'a' + (n % 26) as u8)).collect()
    }

    #[test]
    fn short_messages_survive_the_registers() {
        for request in [Request::Nothing, Request::Say(text(61)), Request::Pair(u64::MAX, -3)] {
            let words = to_words(&request, 0).unwrap();
            assert_eq!(from_words(&words, 0), Ok(request));
        }
        assert_eq!(to_words(&(), 0), Some([0; WORDS]));
        assert_eq!(from_words::<()>(&[0; WORDS], 0), Ok(()));
    }

    #[test]
    fn capabilities_keep_their_words() {
        assert_eq!([inline_bytes(0), inline_bytes(1), inline_bytes(4), inline_bytes(99)], [63, 55, 31, 31]);
        assert_eq!(to_words(&Request::Say(text(62)), 0), None);
        let words = to_words(&Request::Say(text(29)), 4).unwrap();
        assert_eq!(words[4..], [0; 4]);
        assert_eq!(to_words(&Request::Say(text(30)), 4), None);
    }

    #[test]
    fn long_messages_survive_the_buffer() {
        let mut bytes = [0; 90];
        let request = Request::Say(text(80));
        let used = to_bytes(&request, &mut bytes).unwrap();
        assert_eq!(from_bytes(&bytes[..used]), Ok(request.clone()));
        assert_eq!(to_bytes(&request, &mut bytes[..81]), Err(Error::TooLarge));
        assert_eq!(from_bytes::<Request>(&bytes[..used + 1]), Err(Error::Malformed));
        assert_eq!(from_bytes::<Request>(&bytes[..used - 1]), Err(Error::Malformed));
    }

    #[test]
    fn a_length_that_does_not_fit_is_malformed() {
        let mut words = to_words(&Request::Nothing, 0).unwrap();
        for (length, capabilities) in [(64, 0), (255, 0), (56, 1), (32, 4), (32, 7), (2, 0), (0, 0)] {
            words[0] = words[0] & !0xff | length;
            assert_eq!(from_words::<Request>(&words, capabilities), Err(Error::Malformed), "{length}");
        }
    }

    proptest! {
        #[test]
        fn hostile_words_are_decoded_or_refused(words: [u64; WORDS], capabilities in 0_usize..8) {
            if let Ok(request) = from_words::<Request>(&words, capabilities) {
                let again = to_words(&request, capabilities).expect("it came in words");
                prop_assert_eq!(from_words::<Request>(&again, capabilities), Ok(request));
            }
        }
    }
}
