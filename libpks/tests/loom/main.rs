//! The protocols of `libpks::smp` under loom, which runs a model once for every interleaving of its threads and for every
//! value that the memory model lets a load see. A thread is a CPU; kicks, page tables and what a domain reads are plain
//! memory without any order of its own, so that all order comes from the protocol.
//!
//! A frame that the kernel reuses while a domain can still reach it is a data race, which loom reports. A CPU that waits
//! for good ends a model with an error too. Run by `just loom`; without `--cfg loom` there is nothing here.
#![cfg(loom)]

mod latch;
mod machine;
mod presence;
mod ring;
