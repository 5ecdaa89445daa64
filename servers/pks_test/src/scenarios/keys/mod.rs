//! Keys as resources, and where they are: P18, P19, P20.

pub(super) mod audit;
pub(super) mod pool;
