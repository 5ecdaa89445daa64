//! What is left of a rights word when its holder is left: by drops in any order, by an early return, by unwinding.
//!
//! In the guest nothing unwinds; this is where the closing of an opening is seen to survive a panic.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use libpks::opening::{Books, Opening};
use libpks::pkey::{Pkey, Pkrs, Rights};
use proptest::prelude::*;

/// Books that derive the word from what is open, as the kernel does.
#[derive(Clone, Default)]
struct Ledger {
    open: Rc<RefCell<Vec<(u64, Pkey, Rights)>>>,
    next: Rc<Cell<u64>>,
}

impl Books for Ledger {
    fn close(&self, token: u64) {
        let mut open = self.open.borrow_mut();
        let at = open.iter().position(|(known, ..)| *known == token);
        open.remove(at.expect("an opening is closed once"));
    }
}

impl Ledger {
    fn open(&self, number: u8, rights: Rights) -> Opening<Self> {
        let token = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().push((token, key(number), rights));
        Opening::new(token, self.clone())
    }

    fn word(&self) -> Pkrs {
        self.open.borrow().iter().fold(Pkrs::DEFAULT, |word, (_, key, rights)| word.widened(*key, *rights))
    }
}

fn key(number: u8) -> Pkey {
    Pkey::new(number).expect("one of sixteen")
}

/// Opens one key a level, and panics at the deepest.
fn dive(ledger: &Ledger, level: u8, deepest: u8) {
    let _held =
        ledger.open(2 + level, if level.is_multiple_of(2) { Rights::ReadOnly } else { Rights::ReadWrite });
    assert!(level < deepest, "the bottom is reached");
    dive(ledger, level + 1, deepest);
}

#[test]
fn unwinding_closes_what_was_opened_on_the_way_and_nothing_else() {
    for deepest in 0..13 {
        let ledger = Ledger::default();
        let outer = ledger.open(15, Rights::ReadOnly);
        let armed = ledger.word();
        assert_ne!(armed, Pkrs::DEFAULT);
        let seen = RefCell::new(Pkrs::DEFAULT);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            struct Look<'a>(&'a Ledger, &'a RefCell<Pkrs>);
            impl Drop for Look<'_> {
                fn drop(&mut self) {
                    *self.1.borrow_mut() = self.0.word();
                }
            }
            let _held = ledger.open(15, Rights::ReadWrite);
            // Dropped while unwinding, after what `dive` opened and before `_held`.
            let _look = Look(&ledger, &seen);
            dive(&ledger, 0, deepest);
        }));
        assert!(panicked.is_err());
        assert_eq!(seen.into_inner(), Pkrs::DEFAULT.with(key(15), Rights::ReadWrite), "depth {deepest}");
        assert_eq!(ledger.word(), armed, "depth {deepest}");
        drop(outer);
        assert_eq!(ledger.word(), Pkrs::DEFAULT);
    }
}

#[test]
fn an_early_return_closes() {
    fn leaves_early(ledger: &Ledger, word: &str) -> Result<u8, std::num::ParseIntError> {
        let _held = ledger.open(4, Rights::ReadWrite);
        let number = word.parse()?;
        let _other = ledger.open(5, Rights::ReadOnly);
        Ok(number)
    }
    let ledger = Ledger::default();
    assert!(leaves_early(&ledger, "no number").is_err());
    assert_eq!(ledger.word(), Pkrs::DEFAULT);
    assert!(leaves_early(&ledger, "7").is_ok());
    assert_eq!(ledger.word(), Pkrs::DEFAULT);
}

fn rights() -> impl Strategy<Value = Rights> {
    prop_oneof![Just(Rights::NoAccess), Just(Rights::ReadOnly), Just(Rights::ReadWrite)]
}

proptest! {
    /// Whatever is dropped in whatever order: the word is the most that the living openings say, and nothing that a
    /// dropped one said.
    #[test]
    fn the_word_is_what_living_openings_say(
        openings in prop::collection::vec((2_u8..6, rights()), 1..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let ledger = Ledger::default();
        let mut living: Vec<_> =
            openings.iter().map(|&(number, rights)| (number, rights, ledger.open(number, rights))).collect();
        for index in order {
            for number in 2..6 {
                let said = living.iter().filter(|it| it.0 == number).map(|it| it.1).max();
                prop_assert_eq!(ledger.word().rights(key(number)), said.unwrap_or(Rights::NoAccess));
            }
            if !living.is_empty() {
                let at = index.index(living.len());
                drop(living.remove(at));
            }
        }
    }
}
