//! Work in equal shares, taken by as many threads as the host has cores.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Runs `check_fn` once for each number below `shares`; it gives how many cases it has looked at. Fails unless these are
/// `expected` in all; prints what was done.
pub(crate) fn check_all(what: &str, shares: u32, expected: u64, check_fn: impl Fn(u32) -> u64 + Sync) {
    let begin = Instant::now();
    let next = AtomicU32::new(0);
    let work = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        numbers.take_while(|&share| share < shares).map(&check_fn).sum::<u64>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checked: u64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // A share that failed has said so on its own thread.
        running.into_iter().map(|thread| thread.join().expect("a share failed")).sum()
    });
    println!("{what}: {checked} checked in {:.1} s", begin.elapsed().as_secs_f64());
    assert_eq!(checked, expected, "{what}: cases left out");
}
