//! The protocols between servers: one file each, with what a client sends and what a server replies.
#![forbid(unsafe_code)]
#![allow(
    clippy::large_enum_variant,
    reason = "a message lives for the length of a call, and a box would need an allocator on both sides"
)]

use crate::retry::Repetition;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub mod adversary;
pub mod bench;
pub mod console;
pub mod fuzzer;
pub mod ipc_test;
pub mod pks_test;
pub mod stress;
pub mod supervisor;
pub mod testlink;

/// A protocol: a name, an enumeration of requests and one of replies. A type without values stands for it.
pub trait Protocol {
    /// The name of the endpoint where it is spoken, in the manifest and in a client's start information.
    const NAME: &'static str;
    /// What a client sends.
    type Request: Serialize + DeserializeOwned;
    /// What a server replies.
    type Reply: Serialize + DeserializeOwned;

    /// What carrying out a request twice does. A protocol names those that may be sent again after the death of a server
    /// that may have carried them out.
    fn repetition(_request: &Self::Request) -> Repetition {
        Repetition::Harmful
    }
}
