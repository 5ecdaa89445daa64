//! The harness itself: S10, and whether its checks can fail: P21.

pub(super) mod sabotage;
pub(super) mod service;
