//! Switches between threads, and threads that go to another CPU: S4, P6, P7, M2.

pub(super) mod ball;
pub(super) mod forced;
pub(super) mod load;
pub(super) mod migration;
