//! What the registers of every CPU hold: S1, P1; and where there are none: P22.

pub(super) mod defaults;
pub(super) mod without_keys;
