//! Which accesses a key lets pass: S2, S3, K1 to K7, P5, P17.

pub(super) mod hardware;
pub(super) mod matrix;
