//! What a domain is told when it starts: its name, its arguments, and the capabilities that it holds by name.

use super::Name;

/// A capability that was put into the domain before it started.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct NamedCap {
    /// What the manifest calls it.
    pub name: Name,
    /// Its handle in the domain.
    pub handle: u64,
}

/// Lies in the IPC buffer of a domain's first thread when it starts, encoded with postcard; word 0 holds its length.
///
/// `CAPS` bounds what a reader takes; the encoding does not depend on it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct StartInfo<const CAPS: usize = 64> {
    /// The domain's name.
    pub name: Name,
    /// Its arguments; for the first domain the kernel's command line.
    pub args: heapless::String<1024>,
    /// How often it was started before.
    pub restarts: u32,
    /// What it holds.
    pub caps: heapless::Vec<NamedCap, CAPS>,
}
