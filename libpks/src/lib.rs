//! What the Portcullis kernel and its servers have in common.
//!
//! The pure part (protection keys, the capability table, sharing classes, the check of server images, frame
//! bookkeeping, message encoding) is plain safe code without allocation. The kernel runs it as it is, and
//! the host tests it against naive models. Each of those modules forbids unsafe code for itself; the crate as
//! a whole cannot, because the server runtime needs some.
//!
//! Features: `alloc` for modules that allocate, `rt` for the server runtime (implies `alloc`),
//! `model` for the reference model of the stress tests.
#![no_std]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;

pub mod abi;
pub mod args;
pub mod budget;
pub mod bundle;
pub mod burst;
pub mod cap;
pub mod elf;
pub mod frames;
#[cfg(any(feature = "alloc", test))]
pub mod halves;
#[cfg(any(feature = "alloc", test))]
pub mod manifest;
pub mod manifest_head;
#[cfg(any(feature = "model", test))]
pub mod model;
pub mod opening;
pub mod pkey;
#[cfg(any(feature = "alloc", test))]
pub mod placement;
pub mod ports;
pub mod proto;
pub mod retry;
pub mod ring;
#[cfg(any(feature = "rt", test))]
pub mod rt;
pub mod sharing;
pub mod smp;
pub mod table;
pub mod translations;
pub mod verify;
pub mod wire;
