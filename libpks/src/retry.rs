//! Whether a call is made again after its server has died.
//!
//! A request that the server has not seen may always be sent again. One that it may have carried out only if that does
//! no harm, and never one that has killed its server twice: it would kill the third as well.
#![forbid(unsafe_code)]

use crate::abi::Error;

/// So many deaths in a call are laid to the request.
pub const MOST_DEATHS: u32 = 2;
/// So many servers in a row may be gone before they see the request.
const MOST_ABSENCES: u32 = 16;

/// What carrying out a request twice does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repetition {
    /// No more than carrying it out once.
    Harmless,
    /// Perhaps more.
    Harmful,
}

/// What to do about a call that has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Call again; the call waits for the next server by itself.
    Again,
    /// Leave it at the error.
    Fail(Error),
    /// Leave it: the request has killed its server so many times.
    Killer(u32),
}

/// The failures of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    repetition: Repetition,
    deaths: u32,
    absences: u32,
}

impl Retry {
    /// A request that was not sent yet.
    #[must_use]
    pub const fn new(repetition: Repetition) -> Self {
        Self { repetition, deaths: 0, absences: 0 }
    }

    /// The call has failed once more.
    pub fn after(&mut self, error: Error) -> Verdict {
        match (error, self.repetition) {
            // The server has not seen it.
            (Error::PeerDied | Error::NotServed, _) if self.absences < MOST_ABSENCES => {
                self.absences += 1;
                Verdict::Again
            }
            (Error::PeerDiedMidCall, Repetition::Harmless) => {
                self.deaths += 1;
                if self.deaths < MOST_DEATHS { Verdict::Again } else { Verdict::Killer(self.deaths) }
            }
            _ => Verdict::Fail(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_request_is_sent_again_once() {
        let mut retry = Retry::new(Repetition::Harmless);
        assert_eq!(retry.after(Error::PeerDiedMidCall), Verdict::Again);
        assert_eq!(retry.after(Error::PeerDiedMidCall), Verdict::Killer(MOST_DEATHS));
    }

    #[test]
    fn a_harmful_request_that_may_have_run_is_not_sent_again() {
        let mut retry = Retry::new(Repetition::Harmful);
        assert_eq!(retry.after(Error::PeerDied), Verdict::Again, "it was not seen");
        assert_eq!(retry.after(Error::PeerDiedMidCall), Verdict::Fail(Error::PeerDiedMidCall));
    }

    #[test]
    fn absences_are_no_deaths_but_they_have_an_end() {
        for repetition in [Repetition::Harmless, Repetition::Harmful] {
            let mut retry = Retry::new(repetition);
            for _ in 0..MOST_ABSENCES {
                assert_eq!(retry.after(Error::NotServed), Verdict::Again);
            }
            assert_eq!(retry.after(Error::NotServed), Verdict::Fail(Error::NotServed));
        }
    }

    #[test]
    fn no_other_error_is_a_reason_to_call_again() {
        let deaths = [Error::PeerDied, Error::PeerDiedMidCall, Error::NotServed];
        for &error in Error::ALL.iter().filter(|error| !deaths.contains(error)) {
            assert_eq!(Retry::new(Repetition::Harmless).after(error), Verdict::Fail(error));
        }
    }
}
