//! What `init` decides, without the kernel: which capabilities a server gets, and when it is started again.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backoff;
pub mod grants;
