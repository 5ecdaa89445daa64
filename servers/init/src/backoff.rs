//! How long a server that faulted waits for its next start.

use core::time::Duration;

/// The wait after the first fault.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);
/// A server that ran for so long has recovered: its next fault counts as the first.
const RECOVERED: Duration = Duration::from_secs(10);

/// Counts faults in a row; each doubles the wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backoff {
    faults: u32,
}

impl Backoff {
    /// Tells how long to wait after a fault of a server that had run for `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= RECOVERED {
            self.faults = 0;
        }
        let factor = 1_u32.checked_shl(self.faults).unwrap_or(u32::MAX);
        self.faults = self.faults.saturating_add(1);
        FIRST.saturating_mul(factor).min(LONGEST)
    }

    /// Forgets the faults, as after a start by hand.
    pub fn reset(&mut self) {
        self.faults = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: [u128; 8] = core::array::from_fn(|_| backoff.next(Duration::ZERO).as_millis());
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(RECOVERED - Duration::from_nanos(1)), LONGEST);
        }
    }

    #[test]
    fn a_long_run_or_a_start_by_hand_forgets_faults() {
        let mut backoff = Backoff::default();
        backoff.next(Duration::ZERO);
        backoff.next(Duration::ZERO);
        assert_eq!(backoff.next(RECOVERED), FIRST);
        assert_eq!(backoff.next(Duration::ZERO), FIRST * 2);
        backoff.reset();
        assert_eq!(backoff.next(Duration::ZERO), FIRST);
    }
}
