//! Host tests of the pure logic that the kernel runs: ordinary tests for each rule, and random operation
//! sequences against naive models.

mod arena;
mod budget;
mod budget_model;
mod cap_model;
mod cap_revoke;
mod cap_rules;
mod damage;
mod elf;
mod elf_builder;
mod frames;
mod opening;
mod pkey;
mod placement;
mod ring;
mod sharing;
mod sharing_model;
mod small_table;
mod stress_model;
mod wire;
