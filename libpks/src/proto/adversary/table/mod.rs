//! All crimes, a file for each sort.

mod closing;
mod control;
mod exhaustion;
mod frames;
mod handles;
mod instructions;
mod jumps;
mod memory;
mod messages;
mod records;
mod rights;

use super::Crime;
use crate::abi::inspect::Isolation;

/// A sort of crimes.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// What they are about.
    pub title: &'static str,
    /// They themselves.
    pub crimes: &'static [Crime],
}

/// The sorts, in the order of the page docs/attacks.md.
pub const SORTS: &[Sort] = &[
    Sort { title: "Memory of others", crimes: memory::CRIMES },
    Sort { title: "Jumps", crimes: jumps::CRIMES },
    Sort { title: "Jumps that close key 0", crimes: closing::CRIMES },
    Sort { title: "Instructions", crimes: instructions::CRIMES },
    Sort { title: "Frames, stacks, traps", crimes: frames::CRIMES },
    Sort { title: "Flags, segments, interrupts", crimes: control::CRIMES },
    Sort { title: "Handles and capabilities", crimes: handles::CRIMES },
    Sort { title: "Rights that were taken back, memory of others before", crimes: rights::CRIMES },
    Sort { title: "Messages and protocols", crimes: messages::CRIMES },
    Sort { title: "Too much of something", crimes: exhaustion::CRIMES },
    Sort { title: "Reports and the log", crimes: records::CRIMES },
];

const COUNT: usize = {
    let (mut n, mut sort) = (0, 0);
    while sort < SORTS.len() {
        n += SORTS[sort].crimes.len();
        sort += 1;
    }
    n
};

/// All crimes.
pub const CRIMES: &[Crime] = &{
    let mut all = [SORTS[0].crimes[0]; COUNT];
    let (mut n, mut sort) = (0, 0);
    while sort < SORTS.len() {
        let mut row = 0;
        while row < SORTS[sort].crimes.len() {
            all[n] = SORTS[sort].crimes[row];
            n += 1;
            row += 1;
        }
        sort += 1;
    }
    all
};

/// Crimes that nothing stops where each rights word has a root of its own, and why.
const LOST_TO_VIEWS: &[(&str, &str)] = &[
    ("read_kernel_text", FETCHED),
    ("jump_to_gate_bytes", ANY_ROOT),
    ("wrmsr_open_word", ANY_ROOT),
    ("wrmsr_kernel_word", ANY_ROOT),
    ("wrmsr_of_the_exit", ANY_ROOT),
    ("wrmsr_kernel_word_at_exit", ANY_ROOT),
    ("wrmsr_own_word_at_exit", ANY_ROOT),
    ("wrmsr_efer", ANY_ROOT),
    ("wrmsr_pat", ANY_ROOT),
    ("wrmsr_others", ANY_ROOT),
    ("close_key_0", ANY_ROOT),
    ("close_key_0_at_exit", ANY_ROOT),
];
const ANY_ROOT: &str = "the entry code loads CR3, and a jump there brings a root of its own: the machine resets or is the domain's";
const FETCHED: &str = "what every domain must fetch it can read: the text of gates and stubs, and no other";

impl Crime {
    /// Why this isolation does not stop it, so that it is not committed there; `None` where it must be stopped.
    #[must_use]
    pub fn why_lost(&self, isolation: Isolation) -> Option<&'static str> {
        let lost = LOST_TO_VIEWS.iter().find(|(name, _)| isolation == Isolation::Views && *name == self.name);
        lost.map(|&(_, why)| why)
    }
}

/// The crime with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Crime> {
    CRIMES.iter().find(|crime| crime.name == name)
}

/// Rows of a table: a name, what is done; aim and sentence; up to which attacker the wall holds, and the classes; what stops
/// it; what is left.
macro_rules! crimes {
    ($($name:literal: $about:literal, $aim:expr => $sentence:expr, $holds:ident [$($vector:ident)+], $stops:literal $(, left $left:literal)?;)+) => {
        pub(super) const CRIMES: &[Crime] = &{
            #[allow(unused_imports, reason = "each file needs some")]
            use super::super::{Aim::*, Attacker, Sentence::*, Vector};
            [$(Crime {
                name: $name,
                about: $about,
                aim: $aim,
                sentence: $sentence,
                holds: Attacker::$holds,
                vectors: &[$(Vector::$vector),+],
                stopped_by: $stops,
                left: concat!($($left)?),
            }),+]
        };
    };
}
use crimes;

#[cfg(test)]
mod tests {
    use super::super::{Vector, elsewhere};
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn names_are_unique_and_fit() {
        let mut names: Vec<_> = CRIMES.iter().map(|crime| crime.name).collect();
        names.extend(elsewhere::ATTACKS.iter().map(|attack| attack.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name is there twice");
        assert!(names.iter().all(|name| name.len() <= 32), "a name travels in 32 bytes");
    }

    #[test]
    fn every_class_is_met_by_a_row() {
        for vector in Vector::ALL {
            let here = CRIMES.iter().any(|crime| crime.vectors.contains(vector));
            let there = elsewhere::ATTACKS.iter().any(|attack| attack.vectors.contains(vector));
            let open = elsewhere::OPEN.iter().any(|row| row.vectors.contains(vector));
            assert!(here || there || open, "no row for {vector:?}");
        }
    }

    #[test]
    fn those_that_are_lost_are_crimes() {
        assert!(LOST_TO_VIEWS.iter().all(|(name, _)| find(name).is_some()));
        let lost = |isolation| CRIMES.iter().filter(|crime| crime.why_lost(isolation).is_some()).count();
        assert_eq!((lost(Isolation::Pks), lost(Isolation::Pku)), (0, 0));
        assert_eq!(lost(Isolation::Views), LOST_TO_VIEWS.len());
    }

    #[test]
    fn rows_say_what_stops_them() {
        for crime in CRIMES {
            assert!(!crime.about.is_empty() && !crime.stopped_by.is_empty(), "{}", crime.name);
            assert!(!crime.about.contains('|') && !crime.stopped_by.contains('|'), "{}", crime.name);
        }
    }
}
