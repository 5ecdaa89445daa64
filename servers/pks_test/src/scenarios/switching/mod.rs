//! Switches between threads: S4.

pub(super) mod ball;
