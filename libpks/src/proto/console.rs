//! The protocol of `console`: bytes to the terminal and from it.
#![forbid(unsafe_code)]

use super::Protocol;
use serde::{Deserialize, Serialize};

/// Bytes that one request writes at most.
pub const WRITE_BYTES: usize = 1024;
/// Bytes that one reply brings at most.
pub const READ_BYTES: usize = 256;

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl Protocol for Console {
    const NAME: &'static str = "console";
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Write bytes. `\n` goes out as `\r\n`. Gives [`Reply::Written`].
    Write(#[serde(with = "crate::wire::bytes")] heapless::Vec<u8, WRITE_BYTES>),
    /// Take the input that is there; for the subscriber alone. Gives [`Reply::Input`].
    Read,
    /// Become the one who reads. A notification goes with the request; the bits are set in it when there is input, and
    /// when there is space for output again after a write was cut. Gives [`Reply::Done`].
    Subscribe {
        /// Bits for input.
        input: u64,
        /// Bits for space.
        space: u64,
    },
    /// Whether lines of the kernel's log go to the terminal; for the subscriber alone. They stay in the log in any case.
    /// Gives [`Reply::Done`].
    ShowLog(bool),
    /// Look after device and log; from the server's own thread alone. Gives [`Reply::Done`].
    Attend,
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// How many of the bytes were taken.
    Written(u32),
    /// Bytes as the terminal sent them; none if there are none.
    Input(#[serde(with = "crate::wire::bytes")] heapless::Vec<u8, READ_BYTES>),
    /// It is done.
    Done,
    /// It was not done.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Another client has the input.
    #[error("another client reads the input")]
    Taken,
    /// Only who has subscribed may read.
    #[error("subscribe before reading")]
    NotSubscribed,
    /// No notification came with the request.
    #[error("no notification came with the request")]
    NoNotification,
    /// The request is for the server itself.
    #[error("request is for the server itself")]
    NotYours,
}
