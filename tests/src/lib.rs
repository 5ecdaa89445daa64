//! The harness that boots Portcullis in QEMU and judges what happens there.
//!
//! | module | what it does |
//! |---|---|
//! | [`plan`] | what is to be done in one boot: a machine, exercises, how it must end |
//! | [`session`] | carries a plan out; the rules by which a result counts |
//! | [`board`] | runs sessions side by side and hands their results to the test runner |
//! | [`matrix`] | what came of each configuration, as a table and as JSON |
//! | [`link`], [`frame`] | requests and answers over the guest's second serial port |
//! | [`console`] | dialogues on its first serial port |
//! | [`qemu`] | guests in QEMU |
//! | [`cpu`] | CPU models, by what keeps domains to their rights words there |
//! | [`gdbstub`] | stops a guest at an instruction |
//! | [`guest`] | guests that are stopped at exact instructions while they work |
//! | [`fuzz`] | sessions of the fuzzer in the guest |
//! | [`stress`] | sessions of the stress server |
//! | [`translations`] | the model that a log of page-table changes and invalidations is checked against |
//! | [`failure`] | every way to fail |
//! | [`mutants`] | breaks a copy of the tree on purpose, and looks whether the tests see it |
//!
//! The tests themselves are in `tests/system/`. docs/testing.md tells how to use them.
#![forbid(unsafe_code)]

pub mod bench;
pub mod board;
pub mod console;
pub mod cpu;
pub mod failure;
pub mod frame;
pub mod fuzz;
pub mod gdbstub;
pub mod guest;
pub mod link;
pub mod matrix;
pub mod mutants;
pub mod page;
pub mod plan;
pub mod qemu;
pub mod session;
pub mod stress;
pub mod translations;
