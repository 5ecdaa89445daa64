//! Builds what Portcullis boots from, and runs it in QEMU.
//!
//! A [`system::System`] is everything a boot needs, made from a manifest; a [`qemu::Machine`] says
//! what to boot it on. The program `image` and the test harness both stand on these two.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod doctor;
pub mod gdb;
pub mod guest;
pub mod iso;
pub mod kernel;
pub mod limine;
pub mod manifest;
pub mod miri;
pub mod qemu;
pub mod run;
pub mod server;
pub mod system;
pub mod text;
pub mod tool;
pub mod workspace;
