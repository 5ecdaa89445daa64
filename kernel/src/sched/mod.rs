//! Who runs where and when.
//!
//! | module | what it holds |
//! |---|---|
//! | this | the books of a CPU, and the decision who runs next |
//! | [`level`] | how urgent a thread is: a priority, or the background |
//! | [`queue`] | queues of threads, and the run queues of a CPU |
//! | [`place`] | on which CPU a thread runs |
//! | [`wait`] | what threads wait in |
//! | [`deadline`] | when they wait no longer |
//! | [`account`] | CPU time: who pays, who hangs |
//! | [`renewal`] | budgets that are used up, and come back |
//! | [`watch`] | CPUs that do not come into the kernel any more |

mod account;
mod deadline;
mod level;
mod place;
mod queue;
mod renewal;
mod wait;
mod watch;

pub(crate) use level::Level;
pub(crate) use renewal::Renewal;

use crate::arch::{apic, clock, window};
use crate::ipc::passage::Passage;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use libpks::table::Table;
use queue::{QueueEnd, RunQueues};

/// How long a thread runs before another of its priority gets its turn.
const SLICE_NS: u64 = 10_000_000;
/// The longest that the timer is set for.
const LONGEST_NS: u64 = 100_000_000;

/// The books of one CPU.
pub(crate) struct CpuBooks {
    pub(crate) apic_id: u32,
    pub(crate) current: Ref<Thread>,
    pub(crate) idle: Ref<Thread>,
    /// What was current here was taken away: the record that this CPU brings along is void.
    pub(crate) evicted: bool,
    /// What the entry code may do for it.
    pub(crate) passage: Passage,
    ready: RunQueues,
    /// Up to when its time has been charged.
    settled: u64,
    slice_end: u64,
    yielded: bool,
    /// When this CPU was in the kernel last, or was sent an NMI because that was long ago.
    seen: u64,
    pub(crate) switches: u64,
    pub(crate) entries: u64,
    pub(crate) pkrs_writes: u64,
}

impl CpuBooks {
    /// A CPU that idles, on this root.
    pub(crate) fn new(apic_id: u32, idle: Ref<Thread>, root: u64) -> CpuBooks {
        CpuBooks {
            apic_id,
            current: idle,
            idle,
            evicted: false,
            passage: Passage::new(root),
            ready: RunQueues::new(),
            settled: 0,
            slice_end: 0,
            yielded: false,
            seen: 0,
            switches: 0,
            entries: 0,
            pkrs_writes: 0,
        }
    }
}

impl Kernel {
    /// The books of a CPU.
    pub(crate) fn cpu(&mut self, cpu: usize) -> &mut CpuBooks {
        self.cpus.get_mut(cpu as u32).expect("CPU numbers are dense")
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
        self.charge_cpu(cpu, now);
        self.sort_out(cpu);
        let current = self.cpu(cpu).current;
        let runs = self.threads[current].state == State::Running(cpu) && current != self.cpu(cpu).idle;
        let books = self.cpu(cpu);
        let highest = books.ready.highest();
        let turn_over = core::mem::take(&mut books.yielded) || now >= books.slice_end;
        let bound_elsewhere = runs && self.threads[current].bound.is_some_and(|bound| bound != cpu);
        if runs && !bound_elsewhere {
            let own = self.level(current);
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
            self.push_ready(current, cpu, if turn_over { QueueEnd::Back } else { QueueEnd::Front });
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

    /// Sets this CPU's timer for the next deadline or budget, or the end of the slice or of what the thread may use.
    fn arm_timer(&mut self, cpu: usize, next: Ref<Thread>, now: u64) -> Ref<Thread> {
        self.cpu(cpu).seen = now;
        let mut until = now + LONGEST_NS;
        if next != self.cpu(cpu).idle {
            until = until.min(self.cpu(cpu).slice_end).min(now.saturating_add(self.allowance(next)));
        }
        // Every CPU watches the first deadline and the first budget: whichever comes first sees to it.
        if let Some(first) = self.timers.head {
            until = until.min(self.threads[first].deadline);
        }
        if let Some(due) = self.next_budget_due() {
            until = until.min(due);
        }
        apic::set_timer(until.saturating_sub(now).max(1_000));
        next
    }
}
