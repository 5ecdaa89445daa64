//! Histories of the capability table.

use super::sharing::history;
use crate::cap_model;

/// Runs the target.
pub fn run(bytes: &[u8]) {
    cap_model::agree(&history(bytes, cap_model::op()));
}
