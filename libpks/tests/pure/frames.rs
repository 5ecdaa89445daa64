//! The frame bitmap against a set of free frames.

use std::collections::BTreeSet;
use std::ops::Range;

use libpks::frames::{FrameBitmap, FrameError};
use proptest::prelude::*;

#[test]
fn new_bitmap_has_nothing_to_give() {
    let mut words = [u64::MAX; 3];
    let mut frames = FrameBitmap::new(&mut words);
    assert_eq!((frames.frames(), frames.free_count(), frames.allocate()), (192, 0, None));
    assert_eq!(frames.allocate_contiguous(1, 1, None), None);
}

#[test]
fn empty_bitmap_is_harmless() {
    let mut frames = FrameBitmap::new(&mut []);
    assert_eq!((frames.allocate(), frames.allocate_contiguous(1, 1, None)), (None, None));
    assert_eq!(frames.release(0), Err(FrameError::OutOfRange(0)));
    assert_eq!(frames.release_range(0..0), Ok(0));
}

#[test]
fn the_lowest_free_frame_is_handed_out() {
    let mut words = [0; 2];
    let mut frames = FrameBitmap::new(&mut words);
    frames.release_range(60..68).unwrap();
    let first: Vec<_> = (0..5).filter_map(|_| frames.allocate()).collect();
    assert_eq!(first, [60, 61, 62, 63, 64]);
    frames.release(60).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| frames.allocate()).collect();
    assert_eq!(rest, [60, 65, 66, 67]);
}

#[test]
fn double_free_is_refused() {
    let mut words = [0; 2];
    let mut frames = FrameBitmap::new(&mut words);
    frames.release_range(10..11).unwrap();
    assert_eq!(frames.release(10), Err(FrameError::DoubleFree(10)));
    assert_eq!(frames.allocate(), Some(10));
    assert_eq!(frames.release(10), Ok(()));
    assert_eq!(frames.release(10), Err(FrameError::DoubleFree(10)));
    assert_eq!(frames.free_count(), 1);
}

#[test]
fn frames_beyond_the_bitmap_are_refused() {
    let mut words = [0; 2];
    let mut frames = FrameBitmap::new(&mut words);
    for frame in [128, 129, u64::MAX] {
        assert_eq!(frames.release(frame), Err(FrameError::OutOfRange(frame)));
        assert_eq!(frames.is_free(frame), None);
    }
    assert_eq!(frames.release_range(0..129), Err(FrameError::OutOfRange(129)));
    assert_eq!(frames.reserve_range(5..u64::MAX), Err(FrameError::OutOfRange(u64::MAX)));
    assert_eq!(frames.free_count(), 0);
}

#[test]
fn overlapping_ranges_are_counted_once() {
    let mut words = [0; 4];
    let mut frames = FrameBitmap::new(&mut words);
    assert_eq!(frames.release_range(3..200), Ok(197));
    assert_eq!(frames.release_range(100..210), Ok(10));
    assert_eq!(frames.reserve_range(0..10), Ok(7));
    assert_eq!(frames.free_count(), 200);
    assert_eq!(frames.release_range(50..50), Ok(0));
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "what a bad memory map might say")]
fn reversed_range_is_empty() {
    let mut words = [0; 4];
    let mut frames = FrameBitmap::new(&mut words);
    assert_eq!(frames.release_range(90..10), Ok(0));
    assert_eq!(frames.release_range(66..65), Ok(0));
}

#[test]
fn impossible_runs_are_none() {
    let mut words = [0; 2];
    let mut frames = FrameBitmap::new(&mut words);
    frames.release_range(0..128).unwrap();
    for (count, align, below) in
        [(0, 1, None), (1, 0, None), (129, 1, None), (u64::MAX, 1, None), (2, 1, Some(1)), (1, 1, Some(0))]
    {
        assert_eq!(frames.allocate_contiguous(count, align, below), None, "{count} {align} {below:?}");
    }
    assert_eq!(frames.allocate(), Some(0));
    assert_eq!(frames.allocate_contiguous(1, u64::MAX, None), None, "only 0 is a multiple of that");
    assert_eq!(frames.free_count(), 127);
}

const FRAMES: u64 = 256;

#[derive(Clone, Debug)]
enum Op {
    Allocate,
    Run { count: u64, align: u64, below: Option<u64> },
    Release(u64),
    ReleaseRange(Range<u64>),
    ReserveRange(Range<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..=FRAMES, 0..=FRAMES + 4).prop_map(|(a, b)| a.min(b)..a.max(b));
    prop_oneof![
        6 => Just(Op::Allocate),
        4 => (1_u64..70, prop_oneof![Just(1_u64), Just(2), Just(64), 1_u64..20], prop::option::of(0..FRAMES + 9))
            .prop_map(|(count, align, below)| Op::Run { count, align, below }),
        4 => (0..FRAMES + 2).prop_map(Op::Release),
        2 => range.clone().prop_map(Op::ReleaseRange),
        1 => range.prop_map(Op::ReserveRange),
    ]
}

/// The lowest run that there is, by trying each.
fn lowest_run(free: &BTreeSet<u64>, count: u64, align: u64, below: u64) -> Option<u64> {
    (0..FRAMES)
        .step_by(align as usize)
        .find(|first| first + count <= below && (*first..first + count).all(|frame| free.contains(&frame)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 500 }, ..ProptestConfig::default() })]
    #[test]
    fn bitmap_agrees_with_a_set(ops in prop::collection::vec(op(), 0..100)) {
        let mut words = [0; (FRAMES / 64) as usize];
        let mut frames = FrameBitmap::new(&mut words);
        let mut free = BTreeSet::new();
        for op in ops {
            match op {
                Op::Allocate => {
                    let frame = frames.allocate();
                    prop_assert_eq!(frame, free.pop_first());
                }
                Op::Run { count, align, below } => {
                    let first = frames.allocate_contiguous(count, align, below);
                    prop_assert_eq!(first, lowest_run(&free, count, align, below.unwrap_or(FRAMES)));
                    free.retain(|frame| first.is_none_or(|first| !(first..first + count).contains(frame)));
                }
                Op::Release(frame) => {
                    let expected = match frame {
                        frame if frame >= FRAMES => Err(FrameError::OutOfRange(frame)),
                        frame if !free.insert(frame) => Err(FrameError::DoubleFree(frame)),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(frames.release(frame), expected);
                }
                Op::ReleaseRange(range) => {
                    let result = frames.release_range(range.clone());
                    if range.end > FRAMES {
                        prop_assert_eq!(result, Err(FrameError::OutOfRange(range.end)));
                    } else {
                        let before = free.len();
                        free.extend(range);
                        prop_assert_eq!(result, Ok((free.len() - before) as u64));
                    }
                }
                Op::ReserveRange(range) => {
                    let result = frames.reserve_range(range.clone());
                    if range.end > FRAMES {
                        prop_assert_eq!(result, Err(FrameError::OutOfRange(range.end)));
                    } else {
                        let before = free.len();
                        free.retain(|frame| !range.contains(frame));
                        prop_assert_eq!(result, Ok((before - free.len()) as u64));
                    }
                }
            }
            prop_assert_eq!(frames.free_count(), free.len() as u64);
        }
        for frame in 0..FRAMES {
            prop_assert_eq!(frames.is_free(frame), Some(free.contains(&frame)));
        }
    }
}
