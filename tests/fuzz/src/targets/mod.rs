//! The targets.

pub mod bundle;
pub mod caps;
pub mod elf;
pub mod frames;
pub mod info;
pub mod keys;
pub mod manifest;
pub mod proto;
pub mod sharing;
pub mod toml;
pub mod verify;

use crate::mutate::Fields;

/// Something that reads bytes of others.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// What it looks at.
    pub about: &'static str,
    /// Runs it; panics if something is wrong.
    pub run: fn(&[u8]),
    /// The longest input that is worth a try.
    pub longest: usize,
    /// Numbers of its format at places that do not change.
    pub fields: Fields,
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "elf",
        about: "server images: the loader's check against another reader of ELF, and a pretended load",
        run: elf::run,
        longest: 4096,
        fields: elf::FIELDS,
    },
    Target {
        name: "verify",
        about: "text: the scan of each byte against a decoder of instructions",
        run: verify::run,
        longest: 256,
        fields: &[],
    },
    Target {
        name: "manifest",
        about: "encoded manifests: init's reader against the kernel's",
        run: manifest::run,
        longest: 2048,
        fields: &[(4, 2)],
    },
    Target {
        name: "bundle",
        about: "the file with kernel and modules that the direct loader reads",
        run: bundle::run,
        longest: 20480,
        fields: bundle::FIELDS,
    },
    Target {
        name: "proto",
        about: "messages of every protocol, and what the kernel encodes",
        run: proto::run,
        longest: 2048,
        fields: &[],
    },
    Target {
        name: "frames",
        about: "frames of the test link on a line that garbles",
        run: frames::run,
        longest: 1024,
        fields: &[],
    },
    Target {
        name: "info",
        about: "information words of messages against the table of docs/ipc.md",
        run: info::run,
        longest: 64,
        fields: &[(0, 8)],
    },
    Target {
        name: "caps",
        about: "histories of the capability table against a list",
        run: caps::run,
        longest: 4096,
        fields: &[],
    },
    Target {
        name: "sharing",
        about: "histories of the sharing classes against lists of holders",
        run: sharing::run,
        longest: 4096,
        fields: &[],
    },
    Target {
        name: "keys",
        about: "histories of the key allocator against a set",
        run: keys::run,
        longest: 256,
        fields: &[],
    },
    Target {
        name: "toml",
        about: "manifests in TOML: each refusal has a place, each acceptance compiles",
        run: toml::run,
        longest: 4096,
        fields: &[],
    },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
