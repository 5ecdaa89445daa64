//! Messages and frames.

use libpks::wire::{FrameReader, LinkError, WireError, decode, encode, encode_frame, frame_size};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Request<'a> {
    Ping,
    Write { offset: u64, data: &'a [u8] },
    Name(&'a str),
}

#[test]
fn message_round_trip() {
    let mut buffer = [0; 64];
    for message in
        [Request::Ping, Request::Write { offset: u64::MAX, data: &[1, 0, 255] }, Request::Name("näme")]
    {
        let length = encode(&message, &mut buffer).unwrap();
        assert_eq!(decode::<Request<'_>>(&buffer[..length]), Ok(message));
    }
}

#[test]
fn every_way_to_be_no_message_has_its_error() {
    let mut buffer = [0; 64];
    let length = encode(&Request::Name("abc"), &mut buffer).unwrap();
    assert_eq!(decode::<Request<'_>>(&[]), Err(WireError::Empty));
    for cut in 1..length {
        assert_eq!(decode::<Request<'_>>(&buffer[..cut]), Err(WireError::Truncated));
    }
    for extra in 1..3 {
        assert_eq!(decode::<Request<'_>>(&buffer[..length + extra]), Err(WireError::Trailing(extra)));
    }
    assert_eq!(decode::<Request<'_>>(&[9]), Err(WireError::Malformed), "no such variant");
    assert_eq!(decode::<Request<'_>>(&[2, 1, 0xff]), Err(WireError::Malformed), "not UTF-8");
    assert_eq!(decode::<()>(&[]), Ok(()), "a message of no bytes");
}

#[test]
fn message_that_does_not_fit_is_an_error() {
    let data = [7; 16];
    let message = Request::Write { offset: 1, data: &data };
    let needed = encode(&message, &mut [0; 64]).unwrap();
    assert_eq!(encode(&message, &mut vec![0; needed - 1]), Err(WireError::TooLarge));
    assert_eq!(encode(&message, &mut vec![0; needed]), Ok(needed));
}

/// A sequence that does not know its length, which postcard has no encoding for.
struct Unsized;

impl Serialize for Unsized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(std::iter::from_fn(|| None::<u8>).filter(|_| true))
    }
}

#[test]
fn value_without_encoding_is_an_error() {
    assert_eq!(encode(&Unsized, &mut [0; 64]), Err(WireError::Unencodable));
}

/// Everything that a reader of 600 bytes makes of a stream.
fn read(bytes: &[u8]) -> Vec<Result<Vec<u8>, LinkError>> {
    let mut reader = FrameReader::<600>::new();
    bytes.iter().filter_map(|byte| Some(reader.push(*byte)?.map(<[u8]>::to_vec))).collect()
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xee; frame_size(payload.len())];
    let length = encode_frame(payload, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn empty_payload_is_a_frame_but_idle_delimiters_are_none() {
    assert_eq!(read(&[0, 0, 0]), []);
    assert_eq!(read(&frame(&[])), [Ok(vec![])]);
}

#[test]
fn buffer_that_is_too_small_for_a_frame_is_an_error() {
    let size = frame_size(3);
    assert_eq!(encode_frame(b"abc", &mut vec![0; size - 1]), Err(LinkError::TooLarge));
    assert!(encode_frame(b"abc", &mut vec![0; size]).is_ok());
}

#[test]
fn overlong_frame_is_reported_once_and_the_next_is_read() {
    let mut stream = vec![1; 5000];
    stream.push(0);
    stream.extend(frame(b"next"));
    assert_eq!(read(&stream), [Err(LinkError::TooLarge), Ok(b"next".to_vec())]);
}

#[test]
fn reader_that_joins_in_the_middle_is_in_step_after_one_error() {
    let first = frame(b"the first of two frames");
    for cut in 1..first.len() - 1 {
        let mut stream = first[cut..].to_vec();
        stream.extend(frame(b"second"));
        let seen = read(&stream);
        assert_eq!(seen.len(), 2);
        assert!(seen[0].is_err(), "{:?}", seen[0]);
        assert_eq!(seen[1], Ok(b"second".to_vec()));
    }
}

#[test]
fn frame_without_room_for_the_check_is_malformed() {
    assert_eq!(read(&[2, 7, 0]), [Err(LinkError::Malformed)], "one byte");
    assert_eq!(read(&[9, 7, 0]), [Err(LinkError::Malformed)], "ends within a block");
}

proptest! {
    #[test]
    fn frames_survive_the_link(payloads in prop::collection::vec(payload(), 0..5)) {
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
        let expected: Vec<_> = payloads.into_iter().map(Ok).collect();
        prop_assert_eq!(stream.iter().filter(|byte| **byte == 0).count(), expected.len());
        prop_assert_eq!(read(&stream), expected);
    }

    #[test]
    fn any_changed_byte_is_noticed(payload in payload(), at: prop::sample::Index, change in 1_u8..) {
        let mut stream = frame(&payload);
        let at = at.index(stream.len());
        stream[at] ^= change;
        stream.push(0);
        for seen in read(&stream) {
            prop_assert!(seen.is_err(), "took a garbled frame: {:?}", seen);
        }
    }

    #[test]
    fn garbage_never_panics_and_the_next_frame_is_read(garbage in prop::collection::vec(any::<u8>(), 0..1500)) {
        let mut stream = garbage;
        stream.push(0);
        stream.extend(frame(b"after"));
        prop_assert_eq!(read(&stream).pop(), Some(Ok(b"after".to_vec())));
    }

    #[test]
    fn decoding_garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(message) = decode::<Request<'_>>(&garbage) {
            let mut buffer = [0; 64];
            let length = encode(&message, &mut buffer).unwrap();
            prop_assert!(length <= garbage.len(), "used up every byte");
        }
        let _: Result<Vec<Option<String>>, WireError> = decode(&garbage);
    }
}

/// Payloads with many zeros, and with the runs without zeros at which COBS blocks end.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(0_u8..2, 0..60),
        (245_usize..262).prop_map(|length| vec![1; length]),
        (500_usize..520).prop_map(|length| vec![1; length]),
    ]
}
