//! Frames on a line that garbles: what a reader takes for a frame is one, and after any noise it is in step again at the
//! next end of a frame.

use libpks::wire::{FrameReader, LinkError, encode_frame, frame_size};

/// Encoded bytes that the reader takes.
const ROOM: usize = 128;
/// What is sent after the noise.
const GOOD: &[u8] = b"\0a good frame\0";

/// Runs the target.
pub fn run(noise: &[u8]) {
    listen(noise);
    send(noise);
}

/// The bytes come down the line.
fn listen(noise: &[u8]) {
    let mut reader = FrameReader::<ROOM>::new();
    for &byte in noise {
        if let Some(Ok(payload)) = reader.push(byte) {
            let mut frame = [0; 2 * ROOM];
            assert!(payload.len() <= ROOM);
            let used = encode_frame(payload, &mut frame).expect("it came in a frame");
            let mut other = FrameReader::<{ 2 * ROOM }>::new();
            let back = frame[..used].iter().fold(None, |last, &byte| {
                other.push(byte).map(|outcome| outcome.map(<[u8]>::to_vec)).or(last)
            });
            assert_eq!(back, Some(Ok(payload.to_vec())), "another payload came back");
        }
    }
    // Whatever came before is over with the delimiter.
    let _ = reader.push(0);
    let mut frame = [0; ROOM];
    let used = encode_frame(GOOD, &mut frame).expect("it fits");
    for &byte in &frame[..used - 1] {
        assert_eq!(reader.push(byte), None, "a frame within a frame");
    }
    assert_eq!(reader.push(frame[used - 1]), Some(Ok(GOOD)), "out of step");
}

/// The bytes are sent, and arrive with one of them changed.
fn send(payload: &[u8]) {
    let mut frame = vec![0; frame_size(payload.len())];
    let used = encode_frame(payload, &mut frame).expect("there is room");
    frame.truncate(used);
    assert_eq!(frame.iter().position(|&byte| byte == 0), Some(used - 1), "a delimiter within a frame");
    assert_eq!(encode_frame(payload, &mut vec![0; used - 1][..]), Err(LinkError::TooLarge));
    let mut reader = FrameReader::<2048>::new();
    let mut outcomes =
        frame.iter().filter_map(|&byte| reader.push(byte).map(|outcome| outcome.map(<[u8]>::to_vec)));
    assert_eq!(outcomes.next(), Some(Ok(payload.to_vec())));
    // CRC-32 finds every change of one byte.
    let Some(&place) = payload.first() else { return };
    let at = usize::from(place) % (used - 1);
    frame[at] ^= 1 << (place % 8);
    let mut reader = FrameReader::<2048>::new();
    for &byte in &frame {
        if let Some(Ok(taken)) = reader.push(byte) {
            assert_eq!(taken, payload, "a damaged frame was taken");
        }
    }
}
