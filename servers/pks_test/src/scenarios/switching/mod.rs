//! Switches between threads, and threads that go to another CPU: S4, P6, P7, M2, M3.

pub(super) mod ball;
mod denied;
pub(crate) mod domains;
pub(super) mod forced;
pub(super) mod load;
pub(super) mod migration;
