//! What the kernel, the servers and the host tools share.
#![cfg_attr(not(test), no_std)]

pub mod bundle;
