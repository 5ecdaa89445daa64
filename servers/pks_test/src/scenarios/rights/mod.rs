//! Rights as they are given and taken: S6, S8.

pub(super) mod global;
