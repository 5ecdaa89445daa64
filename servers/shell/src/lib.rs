//! What the shell does, without the kernel: editing of lines, commands, tables, and reports of faults in words.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod attack;
pub mod command;
pub mod editor;
pub mod history;
pub mod key;
pub mod report;
pub mod table;
