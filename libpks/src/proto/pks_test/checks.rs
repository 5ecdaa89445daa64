//! Counts checks and words what was seen.

use alloc::boxed::Box;
use core::cell::Cell;
use core::fmt::{self, Debug};
use core::panic::Location;

use super::Seen;
use crate::abi::Error;
use crate::rt::text;

/// Why a scenario ends before its end: a check did not hold, or an operation failed that must not.
#[derive(Debug)]
pub struct Stop(pub Box<Seen>);

/// What every step of a scenario gives.
pub type Run<T = ()> = Result<T, Stop>;

impl Stop {
    /// A failure in words.
    pub fn failed(seen: fmt::Arguments<'_>) -> Self {
        Self(Box::new(text::cut(seen)))
    }
}

impl From<Error> for Stop {
    /// An operation of the kernel failed, at the place of the `?`.
    #[track_caller]
    fn from(error: Error) -> Self {
        let place = Location::caller();
        Self::failed(format_args!("{error} at {}:{}", place.file(), place.line()))
    }
}

/// The checks of one run.
#[derive(Debug, Default)]
pub struct Checks {
    made: Cell<u32>,
}

impl Checks {
    /// How many were made.
    pub fn made(&self) -> u32 {
        self.made.get()
    }

    /// One check.
    ///
    /// # Errors
    /// [`Stop`] with `seen` if it does not hold.
    pub fn that(&self, holds: bool, seen: fmt::Arguments<'_>) -> Run {
        self.made.set(self.made.get().saturating_add(1));
        if holds { Ok(()) } else { Err(Stop::failed(seen)) }
    }

    /// Checks that somebody else has made and that held.
    pub fn count(&self, more: u32) {
        self.made.set(self.made.get().saturating_add(more));
    }

    /// One check that two values are equal.
    ///
    /// # Errors
    /// [`Stop`] with both values if they are not.
    pub fn same<T: PartialEq + Debug>(&self, what: fmt::Arguments<'_>, seen: T, expected: T) -> Run {
        self.that(seen == expected, format_args!("{what}: {seen:x?} instead of {expected:x?}"))
    }
}
