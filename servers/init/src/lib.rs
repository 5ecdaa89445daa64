//! What `init` decides, without the kernel: which capabilities a server gets, when it is started again, and what the
//! next supervisor is told.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backoff;
pub mod grants;
pub mod ledger;
