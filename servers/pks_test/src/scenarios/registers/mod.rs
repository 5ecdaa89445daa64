//! What the registers of every CPU hold: S1.

pub(super) mod defaults;
