//! Who runs where: fixed priorities, a run queue for each CPU, time slices, deadlines.

use crate::arch::{apic, clock, window};
use crate::lock;
use crate::object::{Objects, Ref};
use crate::state::Kernel;
use crate::thread::{Queue, State, Thread};
use libpks::abi::Error;
use libpks::abi::message::Info;
use libpks::table::Table;

/// How long a thread runs before another of its priority gets its turn.
const SLICE_NS: u64 = 10_000_000;
/// The longest that the timer is set for.
const LONGEST_NS: u64 = 100_000_000;
/// A CPU that has not been in the kernel for so long runs a domain that has switched interrupts off: its timer would
/// have brought it in several times.
const WEDGED_NS: u64 = 5 * LONGEST_NS;
/// Priorities, 0 the least urgent.
const LEVELS: usize = 256;

/// The books of one CPU.
pub(crate) struct CpuBooks {
    pub(crate) apic_id: u32,
    pub(crate) current: Ref<Thread>,
    pub(crate) idle: Ref<Thread>,
    /// What was current here was taken away: the record that this CPU brings along is void.
    pub(crate) evicted: bool,
    queues: [Queue; LEVELS],
    /// Which queues have threads.
    occupied: [u64; LEVELS / 64],
    slice_end: u64,
    yielded: bool,
    /// When this CPU was in the kernel last, or was sent an NMI because that was long ago.
    seen: u64,
    pub(crate) switches: u64,
    pub(crate) entries: u64,
    pub(crate) pkrs_writes: u64,
}

impl CpuBooks {
    /// A CPU that idles.
    pub(crate) fn new(apic_id: u32, idle: Ref<Thread>) -> CpuBooks {
        CpuBooks {
            apic_id,
            current: idle,
            idle,
            evicted: false,
            queues: [Queue::default(); LEVELS],
            occupied: [0; LEVELS / 64],
            slice_end: 0,
            yielded: false,
            seen: 0,
            switches: 0,
            entries: 0,
            pkrs_writes: 0,
        }
    }

    /// The most urgent priority that has a thread.
    fn highest(&self) -> Option<u8> {
        let word = self.occupied.iter().rposition(|&word| word != 0)?;
        Some((word * 64 + 63 - self.occupied[word].leading_zeros() as usize) as u8)
    }
}

/// Puts a thread into a queue, behind those of its priority.
pub(crate) fn enqueue_by_priority(threads: &mut Objects<Thread>, queue: &mut Queue, thread: Ref<Thread>) {
    let priority = threads[thread].priority;
    let mut behind = queue.tail;
    while let Some(at) = behind.filter(|&at| threads[at].priority < priority) {
        behind = threads[at].links.previous;
    }
    insert_behind(threads, queue, thread, behind);
}

/// Puts a thread into a queue behind another, or at the head.
fn insert_behind(
    threads: &mut Objects<Thread>,
    queue: &mut Queue,
    thread: Ref<Thread>,
    behind: Option<Ref<Thread>>,
) {
    let next = match behind {
        Some(at) => threads[at].links.next.replace(thread),
        None => queue.head.replace(thread),
    };
    let links = &mut threads[thread].links;
    (links.next, links.previous) = (next, behind);
    match next {
        Some(at) => threads[at].links.previous = Some(thread),
        None => queue.tail = Some(thread),
    }
}

/// Takes a thread out of the queue that it is in.
pub(crate) fn dequeue(threads: &mut Objects<Thread>, queue: &mut Queue, thread: Ref<Thread>) {
    let links = core::mem::take(&mut threads[thread].links);
    match links.previous {
        Some(at) => threads[at].links.next = links.next,
        None => queue.head = links.next,
    }
    match links.next {
        Some(at) => threads[at].links.previous = links.previous,
        None => queue.tail = links.previous,
    }
}

impl Kernel {
    /// The books of a CPU.
    pub(crate) fn cpu(&mut self, cpu: usize) -> &mut CpuBooks {
        self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense")
    }

    /// Lets a thread run that is in no queue.
    pub(crate) fn make_ready(&mut self, thread: Ref<Thread>) {
        self.set_deadline(thread, 0);
        let cpu = self.choose_cpu(thread);
        self.threads[thread].state = State::Ready(cpu);
        self.threads[thread].cpu = cpu;
        self.push_ready(thread, cpu, false);
        let running = self.cpu(cpu).current;
        let (idles, apic_id) = (running == self.cpu(cpu).idle, self.cpu(cpu).apic_id);
        if cpu != window::cpu() && (idles || self.threads[running].priority < self.threads[thread].priority) {
            apic::kick(apic_id);
        }
    }

    fn push_ready(&mut self, thread: Ref<Thread>, cpu: usize, first: bool) {
        let priority = self.threads[thread].priority;
        let books = self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense");
        let queue = &mut books.queues[usize::from(priority)];
        let behind = if first { None } else { queue.tail };
        insert_behind(&mut self.threads, queue, thread, behind);
        books.occupied[usize::from(priority) / 64] |= 1 << (priority % 64);
    }

    fn pull_ready(&mut self, thread: Ref<Thread>, cpu: usize) {
        let priority = self.threads[thread].priority;
        let books = self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense");
        let queue = &mut books.queues[usize::from(priority)];
        dequeue(&mut self.threads, queue, thread);
        if queue.head.is_none() {
            books.occupied[usize::from(priority) / 64] &= !(1 << (priority % 64));
        }
    }

    /// Where a thread is to run: where it is bound; else where it ran, if nothing runs there; else on a CPU that idles;
    /// else where it ran, if something less urgent runs there; else where the least urgent thread runs, if it is less
    /// urgent than this one.
    fn choose_cpu(&mut self, thread: Ref<Thread>) -> usize {
        let (bound, last) = (self.threads[thread].bound, self.threads[thread].cpu);
        if let Some(cpu) = bound {
            return cpu;
        }
        let idles = |kernel: &mut Kernel, cpu: usize| {
            let books = kernel.cpu(cpu);
            books.current == books.idle && books.highest().is_none()
        };
        if idles(self, last) {
            return last;
        }
        if let Some(cpu) = (0..self.cpus.len() as usize).find(|&cpu| idles(self, cpu)) {
            return cpu;
        }
        let urgency = |kernel: &mut Kernel, cpu: usize| {
            let books = kernel.cpu(cpu);
            let (queued, idles) = (books.highest(), books.current == books.idle);
            let running = books.current;
            let running = if idles { None } else { Some(kernel.threads[running].priority) };
            running.max(queued)
        };
        let own = Some(self.threads[thread].priority);
        if urgency(self, last) < own {
            return last;
        }
        let least = (0..self.cpus.len() as usize).min_by_key(|&cpu| urgency(self, cpu)).unwrap_or(last);
        if urgency(self, least) < own { least } else { last }
    }

    /// Takes a thread out of whatever it waits in, and gives what that was.
    pub(crate) fn unlink(&mut self, thread: Ref<Thread>) -> (State, u64) {
        let state = self.threads[thread].state;
        let deadline = self.threads[thread].deadline;
        self.set_deadline(thread, 0);
        match state {
            State::Ready(cpu) => self.pull_ready(thread, cpu),
            State::Running(cpu) => {
                let books = self.cpu(cpu);
                books.current = books.idle;
                books.evicted = true;
            }
            State::Waiting(at) => {
                if let Some(notification) = self.notifications.get_mut(at) {
                    dequeue(&mut self.threads, &mut notification.waiters, thread);
                }
            }
            State::Calling(at) => {
                if let Some(endpoint) = self.endpoints.get_mut(at) {
                    dequeue(&mut self.threads, &mut endpoint.callers, thread);
                }
            }
            State::Joining(at) => {
                if let Some(mut joiners) = self.threads.get(at).map(|joined| joined.joiners) {
                    dequeue(&mut self.threads, &mut joiners, thread);
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
                enqueue_by_priority(&mut self.threads, &mut queue, thread);
                self.notifications[at].waiters = queue;
            }
            State::Calling(at) => {
                let mut queue = self.endpoints[at].callers;
                enqueue_by_priority(&mut self.threads, &mut queue, thread);
                self.endpoints[at].callers = queue;
            }
            State::Joining(at) => {
                let mut queue = self.threads[at].joiners;
                enqueue_by_priority(&mut self.threads, &mut queue, thread);
                self.threads[at].joiners = queue;
            }
            State::Sleeping | State::Faulted | State::Ended => {}
            State::Running(_) | State::Ready(_) => unreachable!("only waiting is blocking"),
        }
        self.set_deadline(thread, deadline);
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

    /// Puts a thread into the timer list, in order, or takes it out.
    fn set_deadline(&mut self, thread: Ref<Thread>, deadline: u64) {
        if self.threads[thread].deadline != 0 {
            let links = core::mem::take(&mut self.threads[thread].timer);
            match links.previous {
                Some(at) => self.threads[at].timer.next = links.next,
                None => self.timers = links.next,
            }
            if let Some(at) = links.next {
                self.threads[at].timer.previous = links.previous;
            }
        }
        self.threads[thread].deadline = deadline;
        if deadline == 0 {
            return;
        }
        let (mut previous, mut next) = (None, self.timers);
        while let Some(at) = next.filter(|&at| self.threads[at].deadline <= deadline) {
            (previous, next) = (Some(at), self.threads[at].timer.next);
        }
        (self.threads[thread].timer.previous, self.threads[thread].timer.next) = (previous, next);
        match previous {
            Some(at) => self.threads[at].timer.next = Some(thread),
            None => self.timers = Some(thread),
        }
        if let Some(at) = next {
            self.threads[at].timer.previous = Some(thread);
        }
    }

    /// Wakes whoever's deadline has passed.
    pub(crate) fn expire_deadlines(&mut self) {
        let now = clock::now_ns();
        while let Some(thread) = self.timers.filter(|&thread| self.threads[thread].deadline <= now) {
            let slept = self.threads[thread].state == State::Sleeping;
            self.wake(thread, if slept { Ok([0; 8]) } else { Err(Error::TimedOut) });
        }
    }

    /// Sends an NMI to each CPU that has not been in the kernel for too long. It lets interrupts in again there; to a
    /// CPU that is well it does nothing.
    pub(crate) fn watch_cpus(&mut self) {
        let (own, now) = (window::cpu(), clock::now_ns());
        for cpu in (0..self.cpus.len() as usize).filter(|&cpu| cpu != own) {
            let books = self.cpu(cpu);
            if now.saturating_sub(books.seen) > WEDGED_NS && !lock::is_inside(cpu) {
                books.seen = now;
                apic::send_nmi(books.apic_id);
            }
        }
    }

    /// The current thread lets others of its priority run.
    pub(crate) fn yield_current(&mut self) {
        let cpu = window::cpu();
        self.cpu(cpu).yielded = true;
    }

    /// Decides who runs on this CPU when it leaves the kernel.
    pub(crate) fn schedule(&mut self) -> Ref<Thread> {
        let cpu = window::cpu();
        let now = clock::now_ns();
        let current = self.cpu(cpu).current;
        let runs = self.threads[current].state == State::Running(cpu) && current != self.cpu(cpu).idle;
        let books = self.cpu(cpu);
        let highest = books.highest();
        let turn_over = core::mem::take(&mut books.yielded) || now >= books.slice_end;
        let bound_elsewhere = runs && self.threads[current].bound.is_some_and(|bound| bound != cpu);
        if runs && !bound_elsewhere {
            let own = self.threads[current].priority;
            let stays = match highest {
                None => true,
                Some(other) if other == own => !turn_over,
                Some(other) => other < own,
            };
            if stays {
                if turn_over {
                    self.cpu(cpu).slice_end = now + SLICE_NS;
                }
                return self.arm_timer(cpu, current, now);
            }
        }
        // For a thread that is preempted another CPU may have nothing to do, or something less urgent.
        if bound_elsewhere || (runs && !turn_over && self.choose_cpu(current) != cpu) {
            self.make_ready(current);
        } else if runs {
            // Whoever was preempted goes on first among its equals; whoever used its turn goes last.
            self.threads[current].state = State::Ready(cpu);
            self.push_ready(current, cpu, !turn_over);
        }
        let next = self.take_next(cpu);
        let books = self.cpu(cpu);
        books.slice_end = now + SLICE_NS;
        if next != current {
            books.switches += 1;
        }
        books.current = next;
        if next != books.idle {
            self.threads[next].state = State::Running(cpu);
            self.threads[next].cpu = cpu;
        }
        self.arm_timer(cpu, next, now)
    }

    /// The most urgent thread of this CPU's queue, else one of another CPU's, else the idle thread.
    fn take_next(&mut self, cpu: usize) -> Ref<Thread> {
        let own = self.cpu(cpu).highest();
        let own = own.and_then(|level| self.cpu(cpu).queues[usize::from(level)].head);
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
        self.cpu(cpu).idle
    }

    /// The most urgent thread in a CPU's queues that may run elsewhere.
    fn first_unbound(&mut self, cpu: usize) -> Option<Ref<Thread>> {
        let highest = self.cpu(cpu).highest()?;
        (0..=highest).rev().find_map(|level| {
            let mut at = self.cpu(cpu).queues[usize::from(level)].head;
            while let Some(thread) = at.filter(|&at| self.threads[at].bound.is_some()) {
                at = self.threads[thread].links.next;
            }
            at
        })
    }

    /// Sets this CPU's timer for the next deadline or the end of the slice.
    fn arm_timer(&mut self, cpu: usize, next: Ref<Thread>, now: u64) -> Ref<Thread> {
        self.cpu(cpu).seen = now;
        let mut until = now + LONGEST_NS;
        if next != self.cpu(cpu).idle {
            until = until.min(self.cpu(cpu).slice_end);
        }
        // Every CPU watches the first deadline: whichever comes first wakes the thread.
        if let Some(first) = self.timers {
            until = until.min(self.threads[first].deadline);
        }
        apic::set_timer(until.saturating_sub(now).max(1_000));
        next
    }
}
