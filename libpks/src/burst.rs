//! Tells when something happens too often.
#![forbid(unsafe_code)]

/// Remembers the last `N` times at which something happened, in nanoseconds of a clock that does not run backwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Burst<const N: usize> {
    window_ns: u64,
    /// The latest first.
    times: [Option<u64>; N],
}

impl<const N: usize> Burst<N> {
    /// `N` times within `window_ns` are too often.
    #[must_use]
    pub const fn new(window_ns: u64) -> Self {
        Self { window_ns, times: [None; N] }
    }

    /// It has happened at `now_ns`. Gives whether that was the `N`th time within the window.
    pub fn note(&mut self, now_ns: u64) -> bool {
        self.times.rotate_right(1);
        if let Some(latest) = self.times.first_mut() {
            *latest = Some(now_ns);
        }
        self.times
            .last()
            .is_some_and(|oldest| oldest.is_some_and(|oldest| now_ns.saturating_sub(oldest) < self.window_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_within_the_window_is_too_many() {
        let mut burst = Burst::<3>::new(10);
        assert_eq!([0, 5, 9].map(|now| burst.note(now)), [false, false, true]);
        assert!(burst.note(14), "5, 9, 14");
        assert_eq!(
            [24, 33, 34].map(|now| burst.note(now)),
            [false, false, false],
            "24 to 34 is all of the window"
        );
        assert!(burst.note(35));
    }

    #[test]
    fn what_happens_rarely_is_never_too_often() {
        let mut burst = Burst::<3>::new(10);
        assert!((0..100).all(|n| !burst.note(n * 5)));
    }
}
