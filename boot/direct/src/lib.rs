//! What the direct loader knows without touching the machine: how it reads what QEMU and the kernel
//! file say, and how it lays out memory and answers.
//!
//! The loader stands in for Limine where QEMU starts a PVH file by `-kernel`: the kernel file is the
//! same and cannot tell the difference, other than by the bootloader's name. The binary beside this
//! library does the rest: entry, other CPUs, the console. Everything here runs on the host as well,
//! so that malformed input of every kind can be tried there; there is no unsafe code here.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod kernel_image;
pub mod limine;
pub mod memory_map;
pub mod paging;
pub mod physical;
pub mod pvh;
pub mod responses;
pub mod rtc;
