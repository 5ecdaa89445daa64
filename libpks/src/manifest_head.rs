//! The head of an encoded manifest: as much of it as the kernel reads, which is what `init` gets. The rest is for `init`
//! (`crate::manifest`).
#![forbid(unsafe_code)]

use serde::Deserialize;

/// The first bytes of an encoded manifest.
pub const MAGIC: [u8; 4] = *b"PKSM";
/// The version of the format; a reader refuses every other one.
pub const VERSION: u16 = 1;
/// The server that the kernel starts, and that starts the others.
pub const INIT: &str = "init";

/// What the manifest gives to `init`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The priority of its threads; more is more urgent.
    pub priority: u8,
    /// Its memory quota in bytes.
    pub memory_bytes: u64,
    /// The size of its stack in bytes.
    pub stack_bytes: u64,
}

/// How the encoding of a manifest begins: the number of servers, then the first fields of the first one. postcard
/// writes a structure as its fields in order, so a reader may stop early.
#[derive(Deserialize)]
struct Beginning<'a> {
    servers: u64,
    name: &'a str,
    _image: &'a str,
    priority: u8,
    _tier: u32,
    memory_bytes: u64,
    stack_bytes: u64,
}

impl Head {
    /// Reads the head; `None` if these bytes are no manifest of this version whose first server is [`INIT`].
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let (version, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        if u16::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (beginning, _) = postcard::take_from_bytes::<Beginning<'_>>(body).ok()?;
        let Beginning { servers, name, priority, memory_bytes, stack_bytes, .. } = beginning;
        (servers > 0 && name == INIT).then_some(Head { priority, memory_bytes, stack_bytes })
    }
}
