//! A machine of a few CPUs: one page that a domain reads through a translation and under a right, and the kernel that
//! takes both away.

use core::cell::Cell;
use libpks::smp::{Bell, Presence, Range};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

/// The page that the domain reads.
pub(crate) const PAGE: Range = (0x1000, 1);
/// What is in a frame that the domain may read, and in one that the kernel has taken back.
const DOMAINS: u32 = 1;
const KERNELS: u32 = 2;
/// How often a CPU waits in a run before loom gives up trying others.
const PATIENCE: usize = 3;

loom::thread_local! {
    static WAITS: Cell<usize> = Cell::new(0);
}

/// Waits for another CPU. A run in which one waits often goes on, but loom looks for no others that begin like it: there is
/// no end to the ways in which CPUs can take turns at waiting.
pub(crate) fn wait() {
    let waits = WAITS.with(|waits| waits.replace(waits.get() + 1));
    if waits >= PATIENCE {
        loom::skip_branch();
    }
    thread::yield_now();
}

/// What all CPUs share. `RANGES` is the room in each list of stale ranges.
pub(crate) struct Machine<const CPUS: usize, const RANGES: usize> {
    pub(crate) presence: Presence<CPUS, RANGES>,
    books: UnsafeCell<Books>,
    /// The frames; the page is in one of them.
    frames: [UnsafeCell<u32>; 2],
    /// The entry of the page table. CPUs walk it whenever they like.
    entry: AtomicUsize,
    /// How often each CPU was kicked.
    kicks: [AtomicUsize; CPUS],
    /// CPUs that have done what the model is about; the others run until then.
    finished: AtomicUsize,
}

/// What the lock protects.
pub(crate) struct Books {
    /// Whether the domain's rights word opens the page.
    opens: bool,
    /// What CPUs have asked all others to forget.
    asked: Vec<(usize, Range)>,
}

/// What a CPU has of its own.
#[derive(Default)]
pub(crate) struct Cpu {
    number: usize,
    /// The rights word: whether it opens the page.
    opens: bool,
    /// The translation of the page that it has cached.
    translation: Option<usize>,
    /// Kicks that it has followed.
    kicks: usize,
    /// What it has forgotten.
    forgotten: Vec<Range>,
}

impl<const CPUS: usize, const RANGES: usize> Machine<CPUS, RANGES> {
    /// Nobody has left the kernel yet, and the domain may read its page.
    pub(crate) fn new() -> Self {
        Self {
            presence: Presence::new(),
            books: UnsafeCell::new(Books { opens: true, asked: Vec::new() }),
            frames: core::array::from_fn(|_| UnsafeCell::new(DOMAINS)),
            entry: AtomicUsize::new(0),
            kicks: core::array::from_fn(|_| AtomicUsize::new(0)),
            finished: AtomicUsize::new(0),
        }
    }

    /// A CPU that has left the kernel for the domain.
    pub(crate) fn start(&self, number: usize) -> Cpu {
        let mut cpu = Cpu { number, ..Cpu::default() };
        self.in_kernel(&mut cpu, |_, _| ());
        cpu
    }

    /// An event: enters the kernel, works as its only CPU, and leaves with the word that the books say by then.
    pub(crate) fn in_kernel(&self, cpu: &mut Cpu, work_fn: impl FnOnce(&mut Cpu, &mut Books)) {
        let Cpu { translation, forgotten, .. } = cpu;
        self.presence.enter(cpu.number, wait, |range| {
            *translation = None;
            forgotten.push(range);
        });
        // SAFETY: loom ends the model if another CPU is in the kernel's state at the same time.
        cpu.opens = self.books.with_mut(|books| {
            let books = unsafe { &mut *books };
            cpu.check_forgotten(books);
            work_fn(cpu, books);
            books.opens
        });
        self.presence.leave(cpu.number);
    }

    /// The domain runs for a moment: if its word opens the page, it reads there. It must find a frame of its own.
    pub(crate) fn run_domain(&self, cpu: &mut Cpu) {
        if !cpu.opens {
            return;
        }
        let frame = *cpu.translation.get_or_insert_with(|| self.entry.load(Relaxed));
        // SAFETY: loom ends the model if the kernel writes to the frame at the same time.
        let found = self.frames[frame].with(|content| unsafe { *content });
        assert_eq!(found, DOMAINS, "the domain reads what is the kernel's");
    }

    /// Says that this CPU has done what the model is about.
    pub(crate) fn finish(&self) {
        self.finished.fetch_add(1, Relaxed);
    }

    /// Runs the domain until so many CPUs have finished, entering the kernel when kicked.
    pub(crate) fn run_until_finished(&self, cpu: &mut Cpu, cpus: usize) {
        while self.finished.load(Relaxed) < cpus {
            self.run_domain(cpu);
            let kicks = self.kicks[cpu.number].load(Relaxed);
            if kicks != core::mem::replace(&mut cpu.kicks, kicks) {
                self.in_kernel(cpu, |_, _| ());
            }
            wait();
        }
        self.run_domain(cpu);
    }

    /// Moves the page to the other frame and has all CPUs forget the first, which is the kernel's then. In the kernel.
    pub(crate) fn move_page(&self, cpu: &mut Cpu) {
        self.entry.store(1, Relaxed);
        cpu.translation = None;
        self.presence.invalidate(PAGE, self.others(cpu.number), &mut Kicks(self));
        self.reuse_frame();
    }

    /// Closes the page in all words; its frame is the kernel's then. In the kernel.
    pub(crate) fn close_page(&self, cpu: &Cpu, books: &mut Books) {
        books.opens = false;
        self.presence.gather(self.others(cpu.number), &mut Kicks(self));
        self.reuse_frame();
    }

    /// Asks all CPUs to forget a range. In the kernel.
    pub(crate) fn invalidate(&self, cpu: &Cpu, books: &mut Books, range: Range) {
        books.asked.push((cpu.number, range));
        self.presence.invalidate(range, self.others(cpu.number), &mut Kicks(self));
    }

    fn reuse_frame(&self) {
        // SAFETY: loom ends the model if a domain reads the frame at the same time.
        self.frames[0].with_mut(|content| unsafe { *content = KERNELS });
    }

    fn others(&self, own: usize) -> impl Iterator<Item = usize> + Clone + use<CPUS, RANGES> {
        (0..CPUS).filter(move |&cpu| cpu != own)
    }
}

impl Cpu {
    /// Under the lock this CPU has forgotten all that others have asked it to forget until now.
    fn check_forgotten(&self, books: &Books) {
        for (_, range) in books.asked.iter().filter(|(by, _)| *by != self.number) {
            assert!(self.forgotten.contains(range), "CPU {} goes on with {range:x?}", self.number);
        }
    }
}

struct Kicks<'a, const CPUS: usize, const RANGES: usize>(&'a Machine<CPUS, RANGES>);

impl<const CPUS: usize, const RANGES: usize> Bell for Kicks<'_, CPUS, RANGES> {
    fn kick(&mut self, cpu: usize) {
        self.0.kicks[cpu].fetch_add(1, Relaxed);
    }

    fn wait(&mut self, _: usize) {
        wait();
    }
}
