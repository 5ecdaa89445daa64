//! Which accesses a key lets pass: S2, S3, K1 to K7, P2 to P5, P14 to P17.

pub(super) mod hardware;
pub(super) mod leaf;
pub(super) mod matrix;
