//! The ring: messages come in order, and no end waits for good.

use libpks::ring::{HEADER, Receiver, Sender, Words};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Memory of a ring of one message of one word.
#[derive(Clone)]
struct Memory(Arc<Vec<AtomicU64>>);

impl Words for Memory {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn load(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Acquire)
    }

    fn store(&self, at: usize, value: u64) {
        self.0[at].store(value, Ordering::Release);
    }

    fn read<const N: usize>(&self, at: usize) -> [u64; N] {
        std::array::from_fn(|n| self.0[at + n].load(Ordering::Relaxed))
    }

    fn write<const N: usize>(&self, at: usize, words: &[u64; N]) {
        words.iter().enumerate().for_each(|(n, word)| self.0[at + n].store(*word, Ordering::Relaxed));
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// What a notification is to one who waits for it.
#[derive(Default)]
struct Note(Mutex<bool>, Condvar);

impl Note {
    fn signal(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut is_set = self.0.lock().unwrap();
        while !*is_set {
            is_set = self.1.wait(is_set).unwrap();
        }
        *is_set = false;
    }
}

#[test]
fn messages_come_in_order_and_nobody_waits_for_good() {
    const MESSAGES: u64 = 2;
    loom::model(|| {
        let memory = Memory(Arc::new((0..=HEADER).map(|_| AtomicU64::new(0)).collect()));
        let (arrived, room) = (Arc::new(Note::default()), Arc::new(Note::default()));
        let mut receiver: Receiver<1, _> = Receiver::new(memory.clone()).unwrap();
        let taker = {
            let (arrived, room) = (Arc::clone(&arrived), Arc::clone(&room));
            thread::spawn(move || {
                for expected in 1..=MESSAGES {
                    let message = loop {
                        if let Some(message) = receiver.take().unwrap() {
                            break message;
                        }
                        if receiver.begin_to_wait().unwrap() {
                            arrived.wait();
                            receiver.stop_waiting();
                        }
                    };
                    assert_eq!(message, [expected]);
                    if receiver.must_wake() {
                        room.signal();
                    }
                }
            })
        };
        let mut sender: Sender<1, _> = Sender::new(memory).unwrap();
        for message in 1..=MESSAGES {
            while !sender.send(&[message]).unwrap() {
                if sender.begin_to_wait().unwrap() {
                    room.wait();
                    sender.stop_waiting();
                }
            }
            if sender.must_wake() {
                arrived.signal();
            }
        }
        taker.join().unwrap();
    });
}
