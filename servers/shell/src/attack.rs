//! Attacks in words: what stopped one, and how it is shown.

use crate::report;
use alloc::format;
use alloc::string::{String, ToString};
use libpks::abi::fault::{FaultAccess, FaultReport};
use libpks::proto::adversary::Consequence;

/// Whether the terminal knows colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colours {
    /// It has said so.
    On,
    /// It has not.
    Off,
}

/// How an attack ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Score {
    /// As it must.
    Stopped,
    /// Otherwise.
    WentThrough,
}

impl Score {
    /// In a word of eight letters.
    #[must_use]
    pub fn word(self, colours: Colours) -> String {
        let (word, colour) = match self {
            Score::Stopped => ("stopped ", 32),
            Score::WentThrough => ("THROUGH!", 31),
        };
        match colours {
            Colours::On => format!("\x1b[1;{colour}m{word}\x1b[0m"),
            Colours::Off => word.into(),
        }
    }
}

/// What came of an attack.
#[must_use]
pub fn words(consequence: &Consequence) -> String {
    match consequence {
        Consequence::Ended(fault) => ended(fault),
        Consequence::EndedElsewhere(fault) => format!("elsewhere: {}", ended(fault)),
        Consequence::EndedUnreported => "its end was not reported".into(),
        Consequence::Refused(error) => format!("refused: {error}"),
        Consequence::Succeeded => "no harm done".into(),
        Consequence::Gained(what) => format!("it has got {what:#x}"),
        Consequence::Harmed(name) => format!("{name} was harmed"),
        Consequence::Leaked => "its report tells of memory of others".into(),
        Consequence::Forged => "the log is forged".into(),
    }
}

fn ended(fault: &FaultReport) -> String {
    let mut text = report::kind(fault.kind);
    if let (Some(key), true) = (fault.key, fault.access != FaultAccess::None) {
        text = format!("{text} {key}");
    }
    if fault.access != FaultAccess::None {
        text = format!("{text}, {} at {:#x}", report::access(fault.access), fault.address);
    }
    match &fault.owner {
        Some(owner) => format!("{text} of {owner}"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libpks::abi::Error;

    #[test]
    fn colours_are_there_when_asked_for() {
        assert_eq!(Score::Stopped.word(Colours::Off), "stopped ");
        assert_eq!(Score::WentThrough.word(Colours::On), "\x1b[1;31mTHROUGH!\x1b[0m");
    }

    #[test]
    fn consequences_are_named() {
        assert_eq!(words(&Consequence::Refused(Error::TooDeep)), "refused: call chain too deep");
        assert_eq!(words(&Consequence::Gained(16)), "it has got 0x10");
    }
}
