//! CPU models, by what keeps domains to their rights words there.

use libpks::abi::inspect::Isolation;

/// A CPU model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpu {
    /// `max`: all that QEMU can emulate, keys for supervisor pages among them.
    Pks,
    /// `max` with protection keys for user pages alone.
    Pku,
    /// `max` without protection keys: page tables for each rights word.
    NoKeys,
    /// The oldest that the kernel runs on: no keys, and no LA57 either.
    Qemu64,
}

impl Cpu {
    /// One for each kind of isolation.
    pub const KINDS: [Self; 3] = [Self::Pks, Self::Pku, Self::NoKeys];

    /// What runs with each kind when all configurations are run, and else with keys for supervisor pages alone.
    #[must_use]
    pub const fn kinds(full: bool) -> &'static [Self] {
        if full { &Self::KINDS } else { &[Self::Pks] }
    }

    /// What QEMU calls it.
    #[must_use]
    pub const fn model(self) -> &'static str {
        match self {
            Self::Pks => "max",
            Self::Pku => "max,-pks",
            Self::NoKeys => "max,-pks,-pku",
            Self::Qemu64 => "qemu64",
        }
    }

    /// What names of tests and of the bench's rows end with.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Pks => "",
            Self::Pku => "_pku",
            Self::NoKeys => "_no_keys",
            Self::Qemu64 => "_no_keys_qemu64",
        }
    }

    /// What keeps domains to their rights words.
    #[must_use]
    pub const fn isolation(self) -> Isolation {
        match self {
            Self::Pks => Isolation::Pks,
            Self::Pku => Isolation::Pku,
            Self::NoKeys | Self::Qemu64 => Isolation::Views,
        }
    }
}
