//! Bytes that came in and were not read yet.

use alloc::collections::VecDeque;

/// Bytes that are kept; further ones are dropped.
const LIMIT: usize = 4096;

/// The queue.
#[derive(Debug, Default)]
pub struct Input(VecDeque<u8>);

impl Input {
    /// Adds a byte, or drops it if nobody reads.
    pub fn push(&mut self, byte: u8) {
        if self.0.len() < LIMIT {
            self.0.push_back(byte);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes up to `N` bytes.
    pub fn take<const N: usize>(&mut self) -> heapless::Vec<u8, N> {
        let count = self.0.len().min(N);
        self.0.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_order_and_the_latest_dropped() {
        let mut input = Input::default();
        (0..LIMIT + 10).for_each(|n| input.push(n as u8));
        assert_eq!(input.take::<3>(), [0, 1, 2]);
        assert_eq!(input.take::<5000>().last(), Some(&((LIMIT - 1) as u8)));
        assert!(input.is_empty());
    }
}
