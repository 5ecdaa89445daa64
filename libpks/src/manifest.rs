//! The manifest: which servers a system has and what each may do.
//!
//! The image builder compiles it from TOML, after checking that it makes sense; it reaches `init` as
//! the boot module `manifest`. Both use these types and [`Manifest::encode`] and
//! [`Manifest::decode`], so that the format is here only: 4 bytes of magic, the version (u16,
//! little-endian), then the postcard encodings of a sequence of [`ImageDigest`] and of [`Manifest`].
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::budget::Budget;
use crate::cap::CapRights;
pub use crate::manifest_head::{INIT, ImageDigest, MAGIC, RestartPolicy, VERSION};
pub use crate::ports::{FORBIDDEN_PORTS, PortRange};

/// Why bytes are not a manifest that this reader understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They do not begin with [`MAGIC`].
    #[error("not a manifest: no magic number at its start")]
    NotAManifest,
    /// They have another version of the format.
    #[error("manifest has format version {0}, this reader knows {VERSION}")]
    Version(u16),
    /// They are cut off, or a value is impossible.
    #[error("manifest is malformed")]
    Malformed,
    /// Something follows the manifest.
    #[error("manifest is followed by {0} bytes that do not belong to it")]
    Trailing(usize),
    /// The first server is not [`INIT`].
    #[error("the manifest's first server is not `{INIT}`")]
    NoInit,
    /// It cannot be encoded: memory ran out.
    #[error("manifest cannot be encoded")]
    Encode,
}

/// All servers of a system, `init` first; the others are started in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The servers.
    pub servers: Vec<ServerEntry>,
}

/// A server and all that it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEntry {
    /// Its name, and the name of the boot module with its ELF file.
    pub name: String,
    /// The crate that it is built from; several servers may share one.
    pub image: String,
    /// The priority of its threads; more is more urgent.
    pub priority: u8,
    /// How it is walled off.
    pub tier: Tier,
    /// Its memory quota in bytes, a multiple of 4096.
    pub memory: u64,
    /// The size of each stack in bytes, a multiple of 4096.
    pub stack: u64,
    /// How much CPU time it may use at its priority.
    pub budget: Budget,
    /// How long a call that it serves may go on beyond the budget of who pays for it, in nanoseconds of CPU time.
    pub overrun_ns: u64,
    /// How many calls it can serve at once, each on a stack of its own; at least 1.
    pub activations: u16,
    /// What happens after a fault.
    pub restart: RestartPolicy,
    /// The endpoints that it serves.
    pub provides: Vec<String>,
    /// The endpoints that it may call.
    pub uses: Vec<Use>,
    /// The I/O ports that it may read and write.
    pub ports: Vec<PortRange>,
    /// The interrupt lines that it may wait for, as global system interrupt numbers.
    pub irqs: Vec<u8>,
    /// What it may do beyond that.
    pub powers: Powers,
    /// Text that it gets at its start.
    pub args: String,
    /// How long it waits for its next start after a fault.
    pub backoff: Backoff,
    /// What the supervisor writes to its ports once it has ended, so that the device is still.
    pub quiesce: Vec<PortValue>,
}

/// How long a server that faulted waits for its next start: each fault in a row doubles the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait after the first fault, in milliseconds.
    pub first_ms: u32,
    /// The longest wait, in milliseconds; not less than the first.
    pub longest_ms: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 100, longest_ms: 5_000 }
    }
}

/// A byte for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortValue {
    /// The port, one of the server's own.
    pub port: u16,
    /// What is written.
    pub value: u8,
}

/// How a server is walled off from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// By a protection key, beside others in a view.
    Keyed,
    /// In a view of its own: nothing of others is mapped where it runs.
    OwnView,
}

/// An endpoint that a server may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The endpoint's name, as its provider's entry has it.
    pub endpoint: String,
    /// What the provider sees with each call from this server.
    pub badge: u64,
    /// The rights of the capability: [`CapRights::CALL`], and perhaps [`CapRights::GRANT`].
    #[serde(with = "rights")]
    pub rights: CapRights,
}

bitflags::bitflags! {
    /// What a server may do that has no endpoint, port or interrupt to it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Powers: u32 {
        /// Read the kernel's log.
        const LOG = 1 << 0;
        /// Turn the machine off, or start it again.
        const POWER = 1 << 1;
        /// Ask the kernel about domains, threads, keys and memory.
        const INSPECT = 1 << 2;
        /// Do what no ordinary domain may do, for tests.
        const SELF_TEST = 1 << 3;
        /// Take hardware keys out of the pool.
        const KEY_POOL = 1 << 4;
        /// Ask the supervisor to stop and start servers.
        const SUPERVISE = 1 << 5;
        /// Make domains of its own: memory to give them, and the images.
        const SPAWN = 1 << 6;
    }
}

impl Powers {
    /// Each power and its word in a manifest.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("log", Self::LOG),
        ("power", Self::POWER),
        ("inspect", Self::INSPECT),
        ("self-test", Self::SELF_TEST),
        ("key-pool", Self::KEY_POOL),
        ("supervise", Self::SUPERVISE),
        ("spawn", Self::SPAWN),
    ];

    /// The power that a manifest's word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, power)| power)
    }
}

impl Serialize for Powers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Powers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_bits(u32::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("a power that does not exist"))
    }
}

/// Rights as their bits, unknown ones refused.
mod rights {
    use super::{CapRights, Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(rights: &CapRights, serializer: S) -> Result<S::Ok, S::Error> {
        rights.bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CapRights, D::Error> {
        CapRights::from_bits(u16::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("a right that does not exist"))
    }
}

impl Manifest {
    /// Encodes the manifest, with the digests of the images that the kernel may load.
    ///
    /// # Errors
    /// [`ManifestError::Encode`] when memory runs out.
    pub fn encode(&self, digests: &[ImageDigest<'_>]) -> Result<Vec<u8>, ManifestError> {
        let body = postcard::to_allocvec(&(digests, self)).map_err(|_| ManifestError::Encode)?;
        let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + body.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    /// Decodes a whole manifest.
    ///
    /// # Errors
    /// See [`ManifestError`]; nothing but a manifest of this version, to its last byte, is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(ManifestError::NotAManifest)?;
        let (version, body) = rest.split_first_chunk().ok_or(ManifestError::Malformed)?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            other => return Err(ManifestError::Version(other)),
        }
        let ((_, manifest), rest) = postcard::take_from_bytes::<(Vec<ImageDigest<'_>>, Self)>(body)
            .map_err(|_| ManifestError::Malformed)?;
        if !rest.is_empty() {
            return Err(ManifestError::Trailing(rest.len()));
        }
        match manifest.servers.first() {
            Some(first) if first.name == INIT => Ok(manifest),
            _ => Err(ManifestError::NoInit),
        }
    }

    /// The entry of the server with this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&ServerEntry> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// The server that provides an endpoint.
    #[must_use]
    pub fn provider(&self, endpoint: &str) -> Option<&ServerEntry> {
        self.servers.iter().find(|server| server.provides.iter().any(|provided| provided == endpoint))
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::vec;

    use super::*;
    use crate::manifest_head::{Digest, Head, Reader};

    const INIT_DIGEST: Digest = [0x5a; 32];
    const SHELL_DIGEST: Digest = [0xa5; 32];

    fn encode(manifest: &Manifest) -> Vec<u8> {
        let images = [(INIT, INIT_DIGEST), ("shell", SHELL_DIGEST)];
        manifest.encode(&images.map(|(module, digest)| ImageDigest { module, digest })).expect("encodes")
    }

    fn head(bytes: &[u8]) -> Option<Head> {
        Reader::new(bytes)?.head()
    }

    #[test]
    fn its_head_says_what_init_gets() {
        let mut bytes = encode(&sample());
        let expected = Head {
            priority: 200,
            own_view: false,
            memory_bytes: 4 << 20,
            stack_bytes: 16384,
            budget: Budget::DEFAULT,
            overrun_ns: 7,
            restart: RestartPolicy::Reboot,
        };
        assert_eq!(head(&bytes), Some(expected));
        assert!((0..100).all(|end| head(&bytes[..end]).is_none()), "cut off");
        let mut apart = sample();
        apart.servers[0].tier = Tier::OwnView;
        assert_eq!(head(&encode(&apart)), Some(Head { own_view: true, ..expected }));
        bytes[4] ^= 1;
        assert_eq!(head(&bytes), None, "another version");
        let mut headless = sample();
        headless.servers.remove(0);
        assert_eq!(head(&encode(&headless)), None, "another server first");
        assert_eq!(head(&sample().encode(&[]).expect("encodes")), Some(expected), "no digests");
    }

    #[test]
    fn its_head_has_the_digests_of_images() {
        let bytes = encode(&sample());
        let reader = Reader::new(&bytes).expect("a manifest");
        assert_eq!(reader.digest(INIT), Some(INIT_DIGEST));
        assert_eq!(reader.digest("shell"), Some(SHELL_DIGEST));
        assert_eq!(reader.digest("shel"), None);
        // Cut off in the middle of a digest: that one is not there, and no other takes its place.
        let reader = Reader::new(&bytes[..60]).expect("its beginning is there");
        assert_eq!((reader.digest(INIT), reader.digest("shell")), (Some(INIT_DIGEST), None));
    }

    fn sample() -> Manifest {
        let init = ServerEntry {
            name: INIT.to_owned(),
            image: INIT.to_owned(),
            priority: 200,
            tier: Tier::Keyed,
            memory: 4 << 20,
            stack: 16384,
            budget: Budget::DEFAULT,
            overrun_ns: 7,
            activations: 1,
            restart: RestartPolicy::Reboot,
            provides: vec!["supervisor".to_owned()],
            uses: vec![],
            ports: vec![],
            irqs: vec![],
            powers: Powers::all(),
            args: String::new(),
            backoff: Backoff::default(),
            quiesce: vec![],
        };
        let shell = ServerEntry {
            name: "shell".to_owned(),
            restart: RestartPolicy::Restart,
            provides: vec![],
            uses: vec![Use {
                endpoint: "supervisor".to_owned(),
                badge: u64::MAX,
                rights: CapRights::CALL | CapRights::GRANT,
            }],
            ports: vec![PortRange { from: 0x3f8, to: 0x3ff }],
            irqs: vec![4],
            powers: Powers::INSPECT | Powers::LOG,
            args: "prompt=pks>".to_owned(),
            backoff: Backoff { first_ms: 0, longest_ms: 1 },
            quiesce: vec![PortValue { port: 0x3f9, value: 0 }],
            ..init.clone()
        };
        Manifest { servers: vec![init, shell] }
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let bytes = encode(&sample());
        let manifest = Manifest::decode(&bytes).expect("decodes");
        assert_eq!(manifest, sample());
        assert_eq!(manifest.provider("supervisor").map(|server| server.name.as_str()), Some(INIT));
        assert_eq!(manifest.server("shell").map(|server| server.irqs.len()), Some(1));
        assert_eq!(manifest.server("nobody"), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = encode(&sample());
        assert_eq!(Manifest::decode(&[]), Err(ManifestError::NotAManifest));
        assert_eq!(Manifest::decode(&good[1..]), Err(ManifestError::NotAManifest));
        assert_eq!(Manifest::decode(&good[..5]), Err(ManifestError::Malformed));
        let mut other = good.clone();
        other[4] = 77;
        assert_eq!(Manifest::decode(&other), Err(ManifestError::Version(77)));
        let mut longer = good.clone();
        longer.extend([0, 0]);
        assert_eq!(Manifest::decode(&longer), Err(ManifestError::Trailing(2)));
        for cut in (6..good.len()).step_by(if cfg!(miri) { 7 } else { 1 }) {
            assert!(Manifest::decode(&good[..cut]).is_err(), "cut to {cut} bytes");
        }
    }

    #[test]
    fn no_flipped_bit_makes_the_reader_panic_or_invent_powers() {
        let good = encode(&sample());
        let step = if cfg!(miri) { 29 } else { 1 };
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))).step_by(step) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(manifest) = Manifest::decode(&bytes) {
                let known = |server: &ServerEntry| Powers::from_bits(server.powers.bits()).is_some();
                assert!(manifest.servers.iter().all(known));
            }
        }
    }

    #[test]
    fn a_manifest_begins_with_init() {
        let mut manifest = sample();
        manifest.servers.reverse();
        let bytes = encode(&manifest);
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::NoInit));
        let bytes = encode(&Manifest { servers: vec![] });
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::NoInit));
    }

    #[test]
    fn every_power_has_one_word() {
        let all = Powers::WORDS.iter().fold(Powers::empty(), |all, (word, power)| {
            assert_eq!(Powers::from_word(word), Some(*power));
            all | *power
        });
        assert_eq!(all, Powers::all());
        assert_eq!(Powers::from_word("root"), None);
    }
}
