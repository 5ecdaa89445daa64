//! Histories of the sharing classes.

use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::sharing_model;

/// Bytes that a step takes.
const STEP: usize = 16;
/// The most steps: a model compares everything after each.
const MOST: usize = 100;

/// Each step drawn with bytes of its own as the seed, so that a changed byte changes one step. (Bytes in place of random
/// numbers would run out, and zeros without end are refused for ever where a number is drawn again.)
pub(super) fn history<T>(bytes: &[u8], step: impl Strategy<Value = T>) -> Vec<T> {
    let draw = |bytes: &[u8]| {
        let mut seed = [0; 32];
        seed[..bytes.len()].copy_from_slice(bytes);
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        Some(step.new_tree(&mut TestRunner::new_with_rng(Config::default(), random)).ok()?.current())
    };
    bytes.chunks(STEP).take(MOST).filter_map(draw).collect()
}

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let Some((&[taken, limits], bytes)) = bytes.split_first_chunk() else { return };
    let limits = (limits > 63).then(|| (usize::from(limits % 20), usize::from(limits / 4 % 30)));
    sharing_model::agree(&history(bytes, sharing_model::op()), taken % 13, limits);
}
