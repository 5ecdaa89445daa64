//! What threads wait in: they are put there, taken out, woken with an outcome.

use super::queue::MAIN;
use crate::arch::clock;
use crate::list::List;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::abi::Error;
use libpks::abi::message::Info;

impl Kernel {
    /// Takes a thread out of whatever it waits in, and gives what that was.
    pub(crate) fn unlink(&mut self, thread: Ref<Thread>) -> (State, u64) {
        let state = self.threads[thread].state;
        let deadline = self.threads[thread].deadline;
        self.set_deadline(thread, 0);
        self.forget_held_back(thread);
        match state {
            State::Ready(cpu) => self.pull_ready(thread, cpu),
            State::Running(cpu) => {
                // Who pays for it may be another one from now on.
                self.charge_cpu(cpu, clock::now_ns());
                let books = self.cpu(cpu);
                books.current = books.idle;
                books.evicted = true;
                books.passage.disarm();
            }
            State::Waiting(at) => {
                if let Some(notification) = self.notifications.get_mut(at) {
                    notification.waiters.remove(&mut self.threads, MAIN, thread);
                }
            }
            State::Calling(at) => {
                if let Some(endpoint) = self.endpoints.get_mut(at) {
                    endpoint.callers.remove(&mut self.threads, MAIN, thread);
                }
            }
            State::Joining(at) => {
                if let Some(mut joiners) = self.threads.get(at).map(|joined| joined.joiners) {
                    joiners.remove(&mut self.threads, MAIN, thread);
                    self.threads[at].joiners = joiners;
                }
            }
            State::Sleeping | State::Faulted | State::Ended => {}
        }
        self.threads[thread].state = State::Ended;
        (state, deadline)
    }

    /// Lets a thread that is in no queue wait as another did ([`Kernel::unlink`]).
    pub(crate) fn relink(&mut self, thread: Ref<Thread>, (state, deadline): (State, u64)) {
        match state {
            State::Running(cpu) => {
                let books = self.cpu(cpu);
                (books.current, books.evicted) = (thread, false);
                self.threads[thread].state = state;
                self.threads[thread].cpu = cpu;
            }
            State::Ready(_) => self.make_ready(thread),
            _ => self.block(thread, state, deadline),
        }
    }

    /// Lets a thread that is in no queue wait.
    pub(crate) fn block(&mut self, thread: Ref<Thread>, state: State, deadline: u64) {
        self.threads[thread].state = state;
        match state {
            State::Waiting(at) => {
                let mut queue = self.notifications[at].waiters;
                self.enqueue(&mut queue, thread);
                self.notifications[at].waiters = queue;
            }
            State::Calling(at) => {
                let mut queue = self.endpoints[at].callers;
                self.enqueue(&mut queue, thread);
                self.endpoints[at].callers = queue;
                // With its budget it will be more urgent, and those whom it waits for with it.
                self.note_held_back(thread, self.level(thread));
            }
            State::Joining(at) => {
                let mut queue = self.threads[at].joiners;
                self.enqueue(&mut queue, thread);
                self.threads[at].joiners = queue;
            }
            State::Sleeping | State::Faulted | State::Ended => {}
            State::Running(_) | State::Ready(_) => unreachable!("only waiting is blocking"),
        }
        self.set_deadline(thread, deadline);
    }

    /// Puts a thread into a queue, behind those that are as urgent.
    fn enqueue(&mut self, queue: &mut List<Thread>, thread: Ref<Thread>) {
        let level = self.level(thread);
        self.threads[thread].queued = level;
        let mut behind = queue.tail;
        while let Some(at) = behind.filter(|&at| self.level(at) < level) {
            behind = self.threads[at].links.previous;
        }
        queue.insert_behind(&mut self.threads, MAIN, thread, behind);
    }

    /// Ends the waiting of a thread with an outcome.
    pub(crate) fn wake(&mut self, thread: Ref<Thread>, outcome: Result<[u64; 8], Error>) {
        self.unlink(thread);
        self.answer(thread, outcome);
        self.make_ready(thread);
    }

    /// Puts an outcome into a thread's record, to be found when it runs.
    pub(crate) fn answer(&mut self, thread: Ref<Thread>, outcome: Result<[u64; 8], Error>) {
        let record = &mut self.threads[thread].record;
        (record.rbx, record.rbp, record.r15) = (0, 0, 0);
        match outcome {
            Ok(words) => {
                record.set_words(words);
                record.r11 = 0;
            }
            Err(error) => {
                record.set_words([0; 8]);
                record.r11 = Info::failed(error).raw();
            }
        }
    }
}
