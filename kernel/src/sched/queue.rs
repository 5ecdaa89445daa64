//! Queues of threads, and the run queues of a CPU.

use super::Level;
use crate::list::{Chain, List};
use crate::object::{Objects, Ref};
use crate::thread::Thread;

/// Run queues, waiting: a thread is in one of those at most.
pub(super) const MAIN: Chain<Thread> = |thread| &mut thread.links;
/// The threads of a domain that its budget holds back.
pub(super) const HELD_BACK: Chain<Thread> = |thread| &mut thread.held_back_links;
/// The threads that have a deadline.
pub(super) const TIMERS: Chain<Thread> = |thread| &mut thread.timer;

const WORDS: usize = Level::COUNT.div_ceil(64);

/// The threads that are ready for a CPU.
#[derive(Debug)]
pub(super) struct RunQueues {
    queues: [List<Thread>; Level::COUNT],
    /// Which queues have threads.
    occupied: [u64; WORDS],
}

impl RunQueues {
    /// None.
    pub(super) const fn new() -> Self {
        RunQueues { queues: [List::EMPTY; Level::COUNT], occupied: [0; WORDS] }
    }

    /// The most urgent level that has a thread.
    pub(super) fn highest(&self) -> Option<Level> {
        let word = self.occupied.iter().rposition(|&word| word != 0)?;
        Some(Level::at(word * 64 + 63 - self.occupied[word].leading_zeros() as usize))
    }

    /// Whether no thread is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.highest().is_none()
    }

    /// The first thread of a level.
    pub(super) fn first(&self, level: Level) -> Option<Ref<Thread>> {
        self.queues[level.index()].head
    }

    /// Puts a thread into the queue of a level, ahead of the others there or behind them.
    pub(super) fn push(
        &mut self,
        threads: &mut Objects<Thread>,
        thread: Ref<Thread>,
        level: Level,
        end: QueueEnd,
    ) {
        let queue = &mut self.queues[level.index()];
        let behind = match end {
            QueueEnd::Front => None,
            QueueEnd::Back => queue.tail,
        };
        queue.insert_behind(threads, MAIN, thread, behind);
        self.occupied[level.index() / 64] |= 1 << (level.index() % 64);
    }

    /// Takes a thread out of the queue of a level.
    pub(super) fn pull(&mut self, threads: &mut Objects<Thread>, thread: Ref<Thread>, level: Level) {
        let queue = &mut self.queues[level.index()];
        queue.remove(threads, MAIN, thread);
        if queue.head.is_none() {
            self.occupied[level.index() / 64] &= !(1 << (level.index() % 64));
        }
    }
}

/// Where a thread gets into a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QueueEnd {
    /// It runs next.
    Front,
    /// It is its turn after all the others.
    Back,
}
