//! The ring against a queue, and against an end that lies.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use libpks::ring::{HEADER, Receiver, RingError, Sender, Words};
use proptest::prelude::*;

/// Memory of both ends.
#[derive(Clone)]
struct Memory(Rc<RefCell<Vec<u64>>>);

impl Memory {
    fn new(words: usize) -> Self {
        Self(Rc::new(RefCell::new(vec![0; words])))
    }
}

impl Words for Memory {
    fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn load(&self, at: usize) -> u64 {
        self.0.borrow()[at]
    }

    fn store(&self, at: usize, value: u64) {
        self.0.borrow_mut()[at] = value;
    }

    fn read<const N: usize>(&self, at: usize) -> [u64; N] {
        self.0.borrow()[at..at + N].try_into().expect("N words")
    }

    fn write<const N: usize>(&self, at: usize, words: &[u64; N]) {
        self.0.borrow_mut()[at..at + N].copy_from_slice(words);
    }

    fn fence(&self) {}
}

fn ends<const N: usize>(words: usize) -> (Memory, Sender<N, Memory>, Receiver<N, Memory>) {
    let memory = Memory::new(words);
    let sender = Sender::new(memory.clone()).expect("large enough");
    let receiver = Receiver::new(memory.clone()).expect("large enough");
    (memory, sender, receiver)
}

#[test]
fn memory_that_holds_no_message_is_refused() {
    for words in [0, HEADER - 1, HEADER, HEADER + 2] {
        assert_eq!(Sender::<3, _>::new(Memory::new(words)).err(), Some(RingError::TooSmall), "{words}");
        assert_eq!(Receiver::<3, _>::new(Memory::new(words)).err(), Some(RingError::TooSmall), "{words}");
    }
    assert!(Sender::<3, _>::new(Memory::new(HEADER + 3)).is_ok());
    assert_eq!(Sender::<0, _>::new(Memory::new(99)).err(), Some(RingError::TooSmall), "no words");
}

#[test]
fn as_many_fit_as_a_power_of_two() {
    for (words, fit) in [(HEADER + 2, 1), (HEADER + 5, 2), (HEADER + 7, 2), (HEADER + 8, 4), (HEADER + 15, 4)]
    {
        let (_, mut sender, mut receiver) = ends::<2>(words);
        let sent = (0..99).take_while(|&n| sender.send(&[n, n]).expect("honest")).count();
        assert_eq!(sent, fit, "{words} words");
        assert_eq!(receiver.take(), Ok(Some([0, 0])));
        assert_eq!(sender.send(&[7, 7]), Ok(true), "there is room again");
    }
}

#[test]
fn a_count_that_cannot_be_is_an_error_and_changes_nothing() {
    for lie in [5, u64::MAX, 1 << 63] {
        let (memory, mut sender, mut receiver) = ends::<1>(HEADER + 4);
        memory.store(0, lie);
        assert_eq!(receiver.take(), Err(RingError::Corrupt), "{lie} sent");
        assert_eq!(receiver.begin_to_wait(), Err(RingError::Corrupt));
        assert_eq!(memory.load(9), 0, "and it does not wait");
        memory.store(0, 0);
        assert_eq!(receiver.take(), Ok(None));
        (0..4).for_each(|n| assert_eq!(sender.send(&[n]), Ok(true)));
        memory.store(8, lie);
        assert_eq!(sender.send(&[9]), Err(RingError::Corrupt), "{lie} taken");
        assert_eq!(sender.begin_to_wait(), Err(RingError::Corrupt));
        memory.store(8, 1);
        assert_eq!(sender.send(&[9]), Ok(true));
    }
}

#[test]
fn who_waits_is_woken_once() {
    let (_, mut sender, mut receiver) = ends::<1>(HEADER + 1);
    assert_eq!(receiver.begin_to_wait(), Ok(true));
    assert_eq!(sender.send(&[1]), Ok(true));
    assert!(sender.must_wake());
    assert!(!sender.must_wake(), "once");
    assert_eq!(receiver.begin_to_wait(), Ok(false), "there is a message");
    assert_eq!(sender.begin_to_wait(), Ok(true), "there is no room");
    assert_eq!(receiver.take(), Ok(Some([1])));
    assert!(receiver.must_wake());
    assert_eq!(sender.begin_to_wait(), Ok(false), "there is room");
    assert!(!receiver.must_wake());
}

proptest! {
    #[test]
    fn batches_are_messages_one_after_the_other(
        capacity in 0_u32..5,
        steps in prop::collection::vec((any::<bool>(), 0_usize..20), 0..100),
    ) {
        let (_, mut sender, mut receiver) = ends::<2>(HEADER + 2 * (1 << capacity));
        let (mut model, mut next) = (VecDeque::<[u64; 2]>::new(), 0_u64);
        for (is_send, many) in steps {
            if is_send {
                let messages: Vec<_> = (next..).take(many).map(|n| [n, !n]).collect();
                let fit = many.min((1 << capacity) - model.len());
                prop_assert_eq!(sender.send_batch(&messages), Ok(fit));
                model.extend(messages[..fit].iter().copied());
                next += fit as u64;
            } else {
                let mut room = vec![[0; 2]; many];
                let there = many.min(model.len());
                prop_assert_eq!(receiver.take_batch(&mut room), Ok(there));
                let expected: Vec<_> = model.drain(..there).collect();
                prop_assert_eq!(&room[..there], &expected[..]);
            }
        }
    }

    #[test]
    fn it_is_a_queue(capacity in 0_u32..5, steps in prop::collection::vec(any::<bool>(), 0..200)) {
        let (_, mut sender, mut receiver) = ends::<3>(HEADER + 3 * (1 << capacity));
        let mut model = VecDeque::new();
        for (n, is_send) in (0_u64..).zip(steps) {
            if is_send {
                let message = [n, n ^ 1, !n];
                let fits = model.len() < 1 << capacity;
                prop_assert_eq!(sender.send(&message), Ok(fits));
                if fits {
                    model.push_back(message);
                }
            } else {
                prop_assert_eq!(receiver.take(), Ok(model.pop_front()));
            }
        }
    }
}
