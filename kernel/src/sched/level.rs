//! How urgent a thread is right now.

/// The background, or above it a priority: what the scheduler goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Level(u16);

impl Level {
    /// Below every priority: who has no budget.
    pub(crate) const BACKGROUND: Level = Level(0);
    /// How many there are.
    pub(super) const COUNT: usize = 257;

    /// That of a priority, 0 the least urgent.
    pub(crate) const fn of(priority: u8) -> Level {
        Level(priority as u16 + 1)
    }

    /// The priority; none in the background.
    pub(crate) const fn priority(self) -> Option<u8> {
        match self.0.checked_sub(1) {
            Some(priority) => Some(priority as u8),
            None => None,
        }
    }

    /// Its place among all, the least urgent first.
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The level at a place, which is below [`Level::COUNT`].
    pub(super) const fn at(index: usize) -> Level {
        Level(index as u16)
    }
}
