//! Faults, who handles them, and what the interrupted thread gets back: S5, S7, P9.

pub(super) mod exception;
pub(super) mod nested;
pub(super) mod update;
