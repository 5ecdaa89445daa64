//! Fuzz targets: everything that reads bytes of others, held against a second reader or a plain model.
//!
//! A target takes bytes and panics if something is wrong. The engine ([`libfuzzer-sys`], guided by coverage) looks for
//! such bytes (`just fuzz`); what it has found worth keeping lies in `corpus/TARGET/`, and `tests/corpus.rs` runs each of
//! those files, and changed copies of them, in every `just test`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`targets`] | a file for each target |
//! | [`mutate`] | changes of inputs that know of headers and fields |
//! | [`corpus`] | where the inputs are |
//!
//! [`libfuzzer-sys`]: https://docs.rs/libfuzzer-sys
#![forbid(unsafe_code)]

pub mod corpus;
pub mod mutate;
pub mod targets;

// The histories and models of libpks' own tests, here fed by the engine.
#[path = "../../../libpks/tests/pure/cap_model.rs"]
mod cap_model;
#[path = "../../../libpks/tests/pure/sharing_model.rs"]
mod sharing_model;
#[path = "../../../libpks/tests/pure/small_table.rs"]
mod small_table;

pub use targets::{TARGETS, Target, find};
