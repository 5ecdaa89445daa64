//! Threads, and where in a chain of calls they sit.

use crate::arch::record::{RFLAGS_START, Record};
use crate::domain::{Domain, Payer};
use crate::ipc::{Activation, Endpoint, Notification, Signal};
use crate::list::{Chain, Links, List};
use crate::object::Ref;
use crate::rights::Opening;
use crate::sched::Level;
use crate::state::Kernel;
use libpks::abi::inspect::DomainState;
use libpks::abi::{Error, layout};
use libpks::pkey::Pkrs;

/// A place to run in a domain: a context (stack and IPC buffer) and the rights that are active there. A thread has
/// one at home and one for each call that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) domain: Ref<Domain>,
    /// Number of the context in the domain's slot.
    pub(crate) context: u32,
    /// The first of its openings.
    pub(crate) openings: Option<Ref<Opening>>,
    /// The rights word: derived from domain and openings, recomputed with every change of either.
    pub(crate) word: Pkrs,
    /// Frame of the IPC buffer.
    pub(crate) buffer: u64,
}

/// The threads that come home to a domain.
pub(crate) const HOME: Chain<Thread> = |thread| &mut thread.home_links;

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Runs on a CPU.
    Running(usize),
    /// Is in the run queue of a CPU.
    Ready(usize),
    /// Sleeps until its deadline.
    Sleeping,
    /// Waits for bits of a notification.
    Waiting(Ref<Notification>),
    /// Waits until its call is accepted.
    Calling(Ref<Endpoint>),
    /// Waits for another thread's end.
    Joining(Ref<Thread>),
    /// Stands at a fault.
    Faulted,
    /// Has ended.
    Ended,
}

/// How a thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// By itself, with a code.
    Exited(u64),
    /// It was killed.
    Killed,
}

/// A thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) home: Seat,
    pub(crate) home_links: Links<Thread>,
    /// Who pays for this object; nobody for those that the kernel made.
    pub(crate) payer: Option<Payer>,
    /// The call that it is in.
    pub(crate) top: Option<Ref<Activation>>,
    /// How many calls deep it is.
    pub(crate) depth: u8,
    pub(crate) state: State,
    pub(crate) record: Record,
    /// Its own priority, which counts as long as there is a budget for it.
    pub(crate) priority: u8,
    /// What those who wait for a call that it is in lend it.
    pub(crate) lent: Level,
    /// How urgent it was when it got into the queue in which it is, or was last.
    pub(crate) queued: Level,
    /// The CPU on which it runs or ran last.
    pub(crate) cpu: usize,
    pub(crate) bound: Option<usize>,
    /// Its neighbours in the queue in which it is: one at most.
    pub(crate) links: Links<Thread>,
    /// Whether its domain remembers it as one that waits for a budget, and its neighbours there.
    pub(crate) held_back: bool,
    pub(crate) held_back_links: Links<Thread>,
    /// Nanoseconds since boot; 0 for none. While it is not 0 the thread is in the timer list.
    pub(crate) deadline: u64,
    pub(crate) timer: Links<Thread>,
    pub(crate) joiners: List<Thread>,
    pub(crate) ending: Option<Ending>,
    /// Who called is gone: when the last call returns, the thread ends.
    pub(crate) orphan: bool,
    /// Whether it has a home to come back to, and is in its domain's list; not so for a thread that took calls over from
    /// another, and for one whose domain has ended.
    pub(crate) owns_home: bool,
    /// Number of the fault report at which it stands.
    pub(crate) fault: Option<u64>,
    pub(crate) on_fault: Option<Signal>,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

impl Thread {
    /// A thread that starts in a seat.
    pub(crate) fn new(home: Seat, priority: u8, record: Record) -> Thread {
        Thread {
            home,
            home_links: Links::NONE,
            payer: None,
            top: None,
            depth: 0,
            state: State::Ended,
            record,
            priority,
            lent: Level::BACKGROUND,
            queued: Level::BACKGROUND,
            cpu: 0,
            bound: None,
            links: Links::NONE,
            held_back: false,
            held_back_links: Links::NONE,
            deadline: 0,
            timer: Links::NONE,
            joiners: List::EMPTY,
            ending: None,
            orphan: false,
            owns_home: true,
            fault: None,
            on_fault: None,
            refs: 0,
        }
    }
}

/// First address of a context in a slot.
pub(crate) const fn context_base(slot_base: u64, context: u32) -> u64 {
    slot_base + layout::CONTEXTS_OFFSET + context as u64 * layout::CONTEXT_BYTES
}

impl Kernel {
    /// Makes a thread in a domain and lets it run.
    ///
    /// # Errors
    /// `InvalidArgument` for an entry outside of the slot or a priority above the domain's; those of
    /// [`Kernel::create_seat`].
    pub(crate) fn create_thread(
        &mut self,
        domain: Ref<Domain>,
        request: ThreadRequest,
    ) -> Result<Ref<Thread>, Error> {
        let ThreadRequest { entry, argument, stack_bytes, priority } = request;
        let books = &self.domains[domain];
        let in_slot = (books.base..books.base + layout::SLOT_BYTES).contains(&entry);
        if !in_slot || priority > books.priority {
            return Err(Error::InvalidArgument);
        }
        self.reserve_thread()?;
        self.spare_threads -= 1;
        let payer = self.charge_lasting(domain, THREAD_BYTES)?;
        let seat = self
            .create_seat(domain, stack_bytes)
            .inspect_err(|_| self.refund_lasting(payer, THREAD_BYTES))?;
        let base = context_base(self.domains[domain].base, seat.context);
        let record = Record {
            rip: entry,
            rsp: base + layout::STACK_TOP_OFFSET,
            rflags: RFLAGS_START,
            rdi: argument,
            ..Record::default()
        };
        let thread = Thread { payer: Some(payer), ..Thread::new(seat, priority, record) };
        let thread = self.threads.insert(thread)?;
        let books = &mut self.domains[domain];
        books.threads += 1;
        books.homes.push(&mut self.threads, HOME, thread);
        Ok(thread)
    }

    /// Makes sure that a thread can be made later without fail, beside all that were reserved before.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn reserve_thread(&mut self) -> Result<(), Error> {
        self.threads.reserve(self.spare_threads + 1)?;
        self.spare_threads += 1;
        Ok(())
    }

    /// A thread ends. It is at home or nobody's any more; whoever joined it is told.
    pub(crate) fn end_thread(&mut self, thread: Ref<Thread>, ending: Ending) {
        self.unlink(thread);
        let books = &mut self.threads[thread];
        (books.ending, books.fault) = (Some(ending), None);
        let (home, owns_home) = (books.home, core::mem::take(&mut books.owns_home));
        while let Some(joiner) = self.threads[thread].joiners.head {
            self.wake(joiner, outcome_of(ending));
        }
        if owns_home {
            self.release_seat(&home);
            let home_books = &mut self.threads[thread].home;
            (home_books.openings, home_books.word) = (None, Pkrs::DEFAULT);
            let domain = &mut self.domains[home.domain];
            domain.homes.remove(&mut self.threads, HOME, thread);
            domain.threads -= 1;
        }
        self.forget_thread(thread);
        if !owns_home {
            return;
        }
        let domain = &self.domains[home.domain];
        if domain.threads == 0 && domain.is_alive() && !self.serves(home.domain) {
            self.doom(home.domain, DomainState::Exited);
        }
    }

    /// Whether a domain serves an endpoint, so that it lives without threads of its own.
    pub(crate) fn serves(&self, domain: Ref<Domain>) -> bool {
        !self.domains[domain].served.is_empty()
    }

    /// The last capability to a thread has gone, or the thread has ended: when both is so, nobody asks any more how.
    pub(crate) fn forget_thread(&mut self, thread: Ref<Thread>) {
        if self.threads.get(thread).is_some_and(|books| books.ending.is_some() && books.refs == 0)
            && let Some(Thread { payer: Some(payer), .. }) = self.threads.remove(thread)
        {
            self.refund_lasting(payer, THREAD_BYTES);
        }
    }

    /// Kills a thread. In a call elsewhere it is not stopped midway: it ends when that call returns.
    pub(crate) fn kill_thread(&mut self, thread: Ref<Thread>) {
        let books = &mut self.threads[thread];
        if books.ending.is_some() {
            return;
        }
        if books.top.is_some() {
            books.orphan = true;
        } else {
            self.end_thread(thread, Ending::Killed);
            self.sync_cpus();
        }
    }
}

/// What a thread is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadRequest {
    pub(crate) entry: u64,
    pub(crate) argument: u64,
    pub(crate) stack_bytes: u64,
    pub(crate) priority: u8,
}

/// What a thread costs its domain, its memory aside.
const THREAD_BYTES: u64 = size_of::<Thread>() as u64;

/// What a joiner learns.
pub(crate) fn outcome_of(ending: Ending) -> Result<[u64; 8], Error> {
    match ending {
        Ending::Exited(code) => Ok([code, 0, 0, 0, 0, 0, 0, 0]),
        Ending::Killed => Err(Error::Gone),
    }
}
