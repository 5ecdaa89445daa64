//! The stress run: random steps of threads, regions, capabilities and keys in several domains. The reference model
//! (`libpks::model`) says what must come of each; after each, every thread's rights word and every page's key are
//! compared with it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`] | the run itself: draws steps, carries them out, compares |
//! | [`check`] | the comparison of everything with the model |
//! | [`crew`] | the domains of a run, and what the kernel tells of them |
//! | [`errand`] | what a domain can be asked to do |
//! | [`agent`] | does it, in each of them |
//! | [`subject`] | a thread that opens, closes, reads and writes as it is told |
//! | [`worker`] | making the other domains, and their side of a call |
//! | [`spinner`] | threads that run and look at their rights all along |
#![no_std]
#![forbid(unsafe_code)]
// Elsewhere there is no kernel to stress.
#![cfg(target_os = "none")]

extern crate alloc;

mod agent;
mod check;
mod crew;
mod errand;
mod run;
mod spinner;
mod subject;
mod worker;

pub use crew::Tools;
pub use run::{Failure, run};
pub use worker::{Nursery, if_worker};
