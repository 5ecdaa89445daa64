//! Events that QEMU delivers too late, and trying again.

use anyhow::Result;

/// An event that was not where it was wanted, which says nothing of the guest: QEMU lets the CPU run on a little now and
/// then.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Elsewhere(pub(crate) String);

/// How often in a row an event may come elsewhere.
pub(crate) const ATTEMPTS: usize = 8;

/// Tries until an event comes where it was wanted.
pub(crate) fn again<T>(mut attempt_fn: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt_fn() {
            Err(why) if why.is::<Elsewhere>() => println!("once more: {why:#}"),
            done => return done,
        }
    }
    attempt_fn()
}
