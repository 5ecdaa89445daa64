//! Faults, who handles them, and what the interrupted thread gets back: S5, S7, P8 to P11.

mod chain;
pub(super) mod exception;
pub(super) mod grant;
pub(super) mod isolation;
pub(super) mod nested;
pub(super) mod update;
