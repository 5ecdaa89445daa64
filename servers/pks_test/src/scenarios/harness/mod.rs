//! The harness itself: S10.

pub(super) mod service;
