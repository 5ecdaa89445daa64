//! The head of an encoded manifest: as much of it as the kernel reads, which is the digests of the servers' images and what
//! `init` gets. The rest is for `init` (`crate::manifest`).
#![forbid(unsafe_code)]

use crate::budget::Budget;
use serde::{Deserialize, Serialize};

/// The first bytes of an encoded manifest.
pub const MAGIC: [u8; 4] = *b"PKSM";
/// The version of the format; a reader refuses every other one.
pub const VERSION: u16 = 3;
/// The server that the kernel starts, and that starts the others.
pub const INIT: &str = "init";

/// What becomes of a server that faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays stopped.
    Stop,
    /// It is started again.
    Restart,
    /// The machine is started again.
    Reboot,
}

/// What the manifest gives to `init`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The priority of its threads; more is more urgent.
    pub priority: u8,
    /// Whether it is to have a view of its own.
    pub own_view: bool,
    /// Its memory quota in bytes.
    pub memory_bytes: u64,
    /// The size of its stack in bytes.
    pub stack_bytes: u64,
    /// How much CPU time it may use at its priority.
    pub budget: Budget,
    /// How long a call to it may go on beyond the budget of who pays for it, in nanoseconds.
    pub overrun_ns: u64,
    /// What becomes of it when it keeps ending.
    pub restart: RestartPolicy,
}

/// How the encoding names [`Tier::OwnView`](crate::manifest::Tier::OwnView).
const OWN_VIEW: u32 = 1;

/// The SHA-256 of a file (FIPS 180-4).
pub type Digest = [u8; 32];

/// What a manifest says of a server's image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageDigest<'a> {
    /// The boot module that holds it.
    pub module: &'a str,
    /// The digest of the whole file, as the image builder has passed it.
    pub digest: Digest,
}

/// How the encoding of a manifest goes on behind the digests: the number of servers, then the first fields of the first
/// one. postcard writes a structure as its fields in order, so a reader may stop early.
#[derive(Deserialize)]
struct Beginning<'a> {
    servers: u64,
    name: &'a str,
    _image: &'a str,
    priority: u8,
    tier: u32,
    memory_bytes: u64,
    stack_bytes: u64,
    budget: Budget,
    overrun_ns: u64,
    _activations: u16,
    restart: RestartPolicy,
}

/// An encoded manifest whose beginning has been read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    digests: u64,
    /// From the first digest on.
    body: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the beginning; `None` if these bytes are no manifest of this version.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (version, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        if u16::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (digests, body) = postcard::take_from_bytes(body).ok()?;
        Some(Self { digests, body })
    }

    /// The digest of a module's image; `None` if the manifest names no such module.
    #[must_use]
    pub fn digest(&self, module: &str) -> Option<Digest> {
        self.digests().find_map(|(image, _)| (image.module == module).then_some(image.digest))
    }

    /// What the first server gets; `None` if that is not [`INIT`] or the bytes end before.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let mut read = (0, self.body);
        for (_, rest) in self.digests() {
            read = (read.0 + 1, rest);
        }
        if read.0 != self.digests {
            return None;
        }
        let (beginning, _) = postcard::take_from_bytes::<Beginning<'_>>(read.1).ok()?;
        let Beginning {
            servers,
            name,
            priority,
            tier,
            memory_bytes,
            stack_bytes,
            budget,
            overrun_ns,
            restart,
            ..
        } = beginning;
        (servers > 0 && name == INIT).then_some(Head {
            priority,
            own_view: tier == OWN_VIEW,
            memory_bytes,
            stack_bytes,
            budget,
            overrun_ns,
            restart,
        })
    }

    /// The digests, each with what follows it.
    fn digests(&self) -> impl Iterator<Item = (ImageDigest<'a>, &'a [u8])> {
        let mut rest = self.body;
        (0..self.digests).map_while(move |_| {
            let read = postcard::take_from_bytes(rest).ok()?;
            rest = read.1;
            Some(read)
        })
    }
}
