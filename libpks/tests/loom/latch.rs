//! The latch, which the runtime's lock and the activations of servers are made of.

use super::machine::wait;
use libpks::smp::Latch;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

#[test]
fn a_latch_lets_one_in_at_a_time_and_shows_it_what_the_last_one_did() {
    loom::model(|| {
        let shared = Arc::new((Latch::new(), UnsafeCell::new(0)));
        let add_one = |(latch, value): &(Latch, UnsafeCell<u32>)| {
            while !latch.try_take() {
                wait();
            }
            // SAFETY: loom ends the model if anybody else has the value; the latch is what must keep them away.
            value.with_mut(|value| unsafe { *value += 1 });
            latch.release();
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || add_one(&shared))
            })
            .collect();
        add_one(&shared);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        // SAFETY: as above; the threads have ended.
        assert_eq!(shared.1.with(|value| unsafe { *value }), 3);
    });
}
