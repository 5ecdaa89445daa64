//! All short histories of the key allocator, against a queue.

use super::shares::check_all;
use libpks::pkey::{KeyAllocator, KeyError, Pkey};
use std::collections::VecDeque;

/// The keys that a history gives back: both reserved ones, some that are out, some that are not.
const RELEASED: [u8; 6] = [0, 1, 2, 3, 14, 15];
/// Steps that there are: take a key, or give one of these back.
const STEPS: u32 = RELEASED.len() as u32 + 1;
/// Steps of a history.
const LENGTH: u32 = 8;

/// A second opinion: the free keys, oldest first.
#[derive(Clone)]
struct Model(VecDeque<u8>);

impl Model {
    fn allocate(&mut self) -> Result<u8, KeyError> {
        self.0.pop_front().ok_or(KeyError::Exhausted)
    }

    fn release(&mut self, key: u8) -> Result<(), KeyError> {
        match key {
            0 | 1 => Err(KeyError::Reserved),
            key if self.0.contains(&key) => Err(KeyError::NotAllocated),
            key => {
                self.0.push_back(key);
                Ok(())
            }
        }
    }
}

/// Does one step with both; fails unless they agree on what came of it and on which keys are out.
fn step(keys: &mut KeyAllocator, model: &mut Model, number: u32) {
    match number.checked_sub(1) {
        None => assert_eq!(keys.allocate().map(Pkey::index), model.allocate()),
        Some(which) => {
            let key = RELEASED[which as usize];
            assert_eq!(keys.release(Pkey::new(key).expect("below 16")), model.release(key), "key {key}");
        }
    }
    assert_eq!(usize::from(keys.available()), model.0.len());
    for key in Pkey::all() {
        let out = key.index() >= 2 && !model.0.contains(&key.index());
        assert_eq!(keys.is_allocated(key), out, "key {key}");
    }
}

/// All continuations of a history by up to `left` steps; gives how many steps there were.
fn continue_history(keys: &KeyAllocator, model: &Model, left: u32) -> u64 {
    if left == 0 {
        return 0;
    }
    let mut steps = 0;
    for number in 0..STEPS {
        let (mut keys, mut model) = (keys.clone(), model.clone());
        step(&mut keys, &mut model, number);
        steps += 1 + continue_history(&keys, &model, left - 1);
    }
    steps
}

#[test]
#[ignore = "29 million steps take minutes in a debug build: `just exhaustive`"]
fn any_short_history_of_keys_agrees_with_a_queue() {
    // From 0 to 14 keys are out at the start: with none, few or all left, and at every place of the ring.
    let steps: u64 = (1..=LENGTH).map(|length| u64::from(STEPS).pow(length)).sum();
    check_all("steps of key histories", 4, steps * 4, |share| {
        let (mut keys, mut model) = (KeyAllocator::new(), Model((2..16).collect()));
        for _ in 0..[0, 7, 12, 14][share as usize] {
            step(&mut keys, &mut model, 0);
        }
        continue_history(&keys, &model, LENGTH)
    });
}
