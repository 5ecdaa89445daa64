//! How long a server that faulted waits for its next start.

use core::time::Duration;
use libpks::manifest;
use serde::{Deserialize, Serialize};

/// A server that ran for so long has recovered: its next fault counts as the first.
const RECOVERED: Duration = Duration::from_secs(10);

/// Counts faults in a row; each doubles the wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Backoff {
    faults: u32,
}

impl Backoff {
    /// Tells how long to wait after a fault of a server that had run for `ran`, between the limits of the manifest.
    pub fn next(&mut self, ran: Duration, limits: manifest::Backoff) -> Duration {
        if ran >= RECOVERED {
            self.faults = 0;
        }
        let factor = 1_u32.checked_shl(self.faults).unwrap_or(u32::MAX);
        self.faults = self.faults.saturating_add(1);
        Duration::from_millis(u64::from(limits.first_ms))
            .saturating_mul(factor)
            .min(Duration::from_millis(u64::from(limits.longest_ms)))
    }

    /// Forgets the faults, as after a start by hand.
    pub fn reset(&mut self) {
        self.faults = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: manifest::Backoff = manifest::Backoff { first_ms: 100, longest_ms: 5_000 };
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: [u128; 8] = core::array::from_fn(|_| backoff.next(Duration::ZERO, LIMITS).as_millis());
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(RECOVERED - Duration::from_nanos(1), LIMITS), LONGEST);
        }
    }

    #[test]
    fn a_long_run_or_a_start_by_hand_forgets_faults() {
        let mut backoff = Backoff::default();
        backoff.next(Duration::ZERO, LIMITS);
        backoff.next(Duration::ZERO, LIMITS);
        assert_eq!(backoff.next(RECOVERED, LIMITS), FIRST);
        assert_eq!(backoff.next(Duration::ZERO, LIMITS), FIRST * 2);
        backoff.reset();
        assert_eq!(backoff.next(Duration::ZERO, LIMITS), FIRST);
    }

    #[test]
    fn the_manifest_may_do_without_waits() {
        let mut backoff = Backoff::default();
        let none = manifest::Backoff { first_ms: 0, longest_ms: 0 };
        assert!((0..100).all(|_| backoff.next(Duration::ZERO, none).is_zero()));
    }
}
