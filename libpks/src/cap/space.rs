//! Capability spaces: the list of the nodes that one domain holds.
#![forbid(unsafe_code)]

use super::node::Link;

/// The books of one capability space.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub(super) state: SpaceState,
    /// The node that came last; the others follow by `next_owned`.
    pub(super) newest: Link,
    pub(super) count: u32,
    pub(super) limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceState {
    Closed,
    Open,
    /// Being emptied: what is in it can be used no more, and nothing comes in.
    Closing,
}

impl Space {
    pub(super) const CLOSED: Self =
        Self { state: SpaceState::Closed, newest: Link::NONE, count: 0, limit: 0 };
}
