//! The clock, and sleeping until a time.

use super::gate::{syscall, syscall_until};
use crate::abi::{Error, Syscall};
use core::ops::{Add, Sub};
use core::time::Duration;

/// A time: nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The time now. A kernel that cannot tell it gives the time of boot.
    pub fn now() -> Self {
        Self(syscall(Syscall::Clock, []).map_or(0, |answer| answer.words[0]))
    }

    /// The time `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self::now() + duration
    }

    /// The time that many nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// The later time; the end of time if there is none so late.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time between them; zero if `other` is later.
    fn sub(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(other.0))
    }
}

/// As it travels in RBX: 0 for none, so that the time of boot becomes the nanosecond after it.
pub(super) fn deadline_word(deadline: Option<Instant>) -> u64 {
    deadline.map_or(0, |time| time.0.max(1))
}

/// Sleeps until `time`.
///
/// # Errors
/// What the kernel says; none is expected.
pub fn sleep_until(time: Instant) -> Result<(), Error> {
    syscall_until(Syscall::Sleep, [], deadline_word(Some(time))).map(drop)
}

/// Sleeps for `duration` at least.
///
/// # Errors
/// As [`sleep_until`].
pub fn sleep(duration: Duration) -> Result<(), Error> {
    sleep_until(Instant::after(duration))
}

/// Lets other threads of the same priority run.
pub fn yield_now() {
    // A failure leaves this thread running, which is no worse than nobody else being ready.
    let _ = syscall(Syscall::Yield, []);
}
