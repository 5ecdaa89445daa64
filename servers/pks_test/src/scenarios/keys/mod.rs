//! Keys as resources: P18, P19, P20.

pub(super) mod pool;
