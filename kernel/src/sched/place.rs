//! On which CPU a thread runs.

use super::queue::QueueEnd;
use super::{CpuBooks, Level};
use crate::arch::{apic, window};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::table::Table;

impl Kernel {
    /// Lets a thread run that is in no queue.
    pub(crate) fn make_ready(&mut self, thread: Ref<Thread>) {
        self.set_deadline(thread, 0);
        let cpu = self.choose_cpu(thread);
        self.threads[thread].state = State::Ready(cpu);
        self.threads[thread].cpu = cpu;
        self.push_ready(thread, cpu, QueueEnd::Back);
        let running = self.cpu(cpu).current;
        let (idles, apic_id) = (running == self.cpu(cpu).idle, self.cpu(cpu).apic_id);
        if cpu != window::cpu() && (idles || self.level(running) < self.level(thread)) {
            apic::kick(apic_id);
        }
    }

    /// Puts a thread into the run queue of its level.
    pub(super) fn push_ready(&mut self, thread: Ref<Thread>, cpu: usize, end: QueueEnd) {
        let level = self.level(thread);
        self.threads[thread].queued = level;
        let books = self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense");
        books.ready.push(&mut self.threads, thread, level, end);
        self.note_held_back(thread, level);
    }

    /// Takes a thread out of the run queue that it is in.
    pub(super) fn pull_ready(&mut self, thread: Ref<Thread>, cpu: usize) {
        self.forget_held_back(thread);
        let level = self.threads[thread].queued;
        let books = self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense");
        books.ready.pull(&mut self.threads, thread, level);
    }

    /// Where a thread is to run: where it is bound; else where it ran, if nothing runs there; else on a CPU that idles;
    /// else where it ran, if something less urgent runs there; else where the least urgent thread runs, if it is less
    /// urgent than this one.
    pub(super) fn choose_cpu(&mut self, thread: Ref<Thread>) -> usize {
        let (bound, last) = (self.threads[thread].bound, self.threads[thread].cpu);
        if let Some(cpu) = bound {
            return cpu;
        }
        let idles = |kernel: &mut Kernel, cpu: usize| {
            let books = kernel.cpu(cpu);
            books.current == books.idle && books.ready.is_empty()
        };
        if idles(self, last) {
            return last;
        }
        if let Some(cpu) = (0..self.cpus.len() as usize).find(|&cpu| idles(self, cpu)) {
            return cpu;
        }
        let own = Some(self.level(thread));
        if self.urgency(last) < own {
            return last;
        }
        let least = (0..self.cpus.len() as usize).min_by_key(|&cpu| self.urgency(cpu)).unwrap_or(last);
        if self.urgency(least) < own { least } else { last }
    }

    /// The level of the most urgent thread that runs on a CPU or is ready for it; none if there is no such thread.
    fn urgency(&mut self, cpu: usize) -> Option<Level> {
        let books = self.cpu(cpu);
        let (queued, running) = (books.ready.highest(), books.current);
        let running = if running == books.idle { None } else { Some(self.level(running)) };
        running.max(queued)
    }

    /// The most urgent thread of this CPU's queue, else one of another CPU's, else the idle thread.
    pub(super) fn take_next(&mut self, cpu: usize) -> Ref<Thread> {
        let CpuBooks { ready, idle, .. } = self.cpu(cpu);
        let (own, idle) = (ready.highest().and_then(|level| ready.first(level)), *idle);
        if let Some(thread) = own {
            self.pull_ready(thread, cpu);
            return thread;
        }
        for other in (0..self.cpus.len() as usize).filter(|&other| other != cpu) {
            if let Some(thread) = self.first_unbound(other) {
                self.pull_ready(thread, other);
                return thread;
            }
        }
        idle
    }

    /// The most urgent thread in a CPU's queues that may run elsewhere.
    fn first_unbound(&mut self, cpu: usize) -> Option<Ref<Thread>> {
        let highest = self.cpu(cpu).ready.highest()?;
        (0..=highest.index()).rev().find_map(|level| {
            let mut at = self.cpu(cpu).ready.first(Level::at(level));
            while let Some(thread) = at.filter(|&at| self.threads[at].bound.is_some()) {
                at = self.threads[thread].links.next;
            }
            at
        })
    }
}
