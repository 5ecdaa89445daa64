//! What `console` does, without the kernel: the registers of the UART, and how output of several sources becomes one
//! stream that a terminal can show.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod input;
pub mod terminal;
pub mod uart;
