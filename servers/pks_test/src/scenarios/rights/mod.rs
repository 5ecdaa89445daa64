//! Rights as they are given and taken: S6, S8, P13.

pub(super) mod global;
pub(super) mod guards;
