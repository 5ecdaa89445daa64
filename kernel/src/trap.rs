//! Where traps arrive in Rust, and what they mean.
//!
//! A trap is an allegation against the current thread: a domain can execute INT n or jump to any stub. Blame follows
//! from depth and current thread, never from RIP.

use crate::arch::machine_check::{self, MACHINE_CHECK};
use crate::arch::record::{Record, VECTOR_BAD, VECTOR_CALL, VECTOR_REPLY, VECTOR_SYSCALL};
use crate::arch::{apic, clock, entry, insn, registers, window};
use crate::mem::translations;
use crate::selftest;
use crate::state::Kernel;
use crate::thread::Seat;
use crate::{lock, stop};
use libpks::abi::fault::FaultKind;

/// Flags that an interrupted domain gets back: the arithmetic ones, direction, and identification.
const FLAGS_KEPT: u64 = 0x0020_0cd5;
const FLAG_INTERRUPTS: u64 = 0x200;
const DEBUG: u64 = 1;

/// An event: a domain was interrupted or came through a gate. On return the record says where to go on.
///
/// # Safety
/// Called by the entry code alone, with the address of this CPU's record, at depth 1.
pub(crate) unsafe extern "C" fn kernel_event(record: *mut Record) {
    // SAFETY: the record is this CPU's own; a nested trap has another one.
    let record = unsafe { &mut *record };
    // At once: whoever holds the kernel's lock may need what has failed.
    if record.vector == MACHINE_CHECK && machine_check::is_in_progress() {
        stop::by_trap(record);
    }
    lock::enter(|kernel| kernel.event(record));
}

/// A trap inside the kernel: a probe's fault, a fault that a test provokes, or a bug.
///
/// # Safety
/// Called by the entry code alone, with the address of the record of this DEPTH.
pub(crate) unsafe extern "C" fn kernel_nested(record: *mut Record) {
    // SAFETY: the record lies on the stack of this DEPTH; a deeper trap has another one.
    let record = unsafe { &mut *record };
    let may_go_on = match record.vector {
        // Without a machine check behind it, vector 18 says nothing about the kernel.
        MACHINE_CHECK => !machine_check::is_in_progress(),
        // A trap flag that a domain brought through a gate: the entry clears it on the way out.
        DEBUG => window::depth() == 2,
        _ => selftest::mend(record),
    };
    if !may_go_on {
        stop::by_trap(record);
    }
}

/// A trap inside the kernel that nothing mends.
///
/// # Safety
/// As [`kernel_nested`].
pub(crate) unsafe extern "C" fn kernel_stop(record: *mut Record) -> ! {
    // SAFETY: as in `kernel_nested`.
    stop::by_trap(unsafe { &*record })
}

/// More traps inside one another than there are stacks for.
pub(crate) extern "C" fn kernel_too_deep() -> ! {
    stop::too_deep()
}

/// An NMI. Gives 0 to resume under the word that is in force, 1 under the domain's, 2 if the domain ran under a
/// PKRS that nothing explains and answers for it.
///
/// # Safety
/// Called by the entry code alone, with the address of this CPU's NMI record.
pub(crate) unsafe extern "C" fn kernel_nmi(record: *mut Record) -> u64 {
    // SAFETY: the record is this CPU's own; NMIs do not nest.
    let record = unsafe { &mut *record };
    if crate::is_stopped() {
        insn::stop();
    }
    selftest::note_nmi();
    if window::depth() > 1 {
        return 0;
    }
    let in_entry_text = entry::is_entry_text(record.rip);
    if is_unexplained(record) {
        return 2;
    }
    // Returning to entry code the frame's interrupt flag stays; elsewhere interrupts are on, so that an NMI brings a
    // domain back that has switched them off.
    let interrupts = if in_entry_text { record.rflags & FLAG_INTERRUPTS } else { FLAG_INTERRUPTS };
    record.rflags = (record.rflags & FLAGS_KEPT) | interrupts | 2;
    if entry::runs_with_kernel_word(record.rip) { 0 } else { 1 }
}

/// Whether the PKRS at entry is neither what this CPU's last exit wrote nor what entry code may have written since.
/// What was read at entry is evidence against the current thread at most; it is never restored.
fn is_unexplained(record: &Record) -> bool {
    record.pkrs != window::written() && !entry::is_entry_text(record.rip)
}

impl Kernel {
    fn event(&mut self, record: &mut Record) {
        // Whoever was in entry text may come from one of its writes of a register, by a failed check or by a trap that
        // was arranged to come before it. First of all: the time may be wrong, and the APIC off.
        let came_from_a_write =
            (record.vector == VECTOR_BAD || entry::is_entry_text(record.rip)) && registers::put_right();
        self.settle_passages();
        let own = window::cpu();
        let books = self.cpu(own);
        let passed = core::mem::take(&mut books.passage.ways);
        books.entries += 1 + passed;
        books.pkrs_writes += 2 * (1 + passed);
        let (current, evicted) = (books.current, core::mem::take(&mut books.evicted));
        if !evicted && record.vector != VECTOR_BAD {
            self.threads[current].record = *record;
            self.read_as_keys_would(current);
            // A gate that was interrupted before it committed starts again.
            if let Some(gate) = entry::gate_start_of(record.rip) {
                self.threads[current].record.rip = gate;
            }
        }
        let now = clock::now_ns();
        self.charge_own_time(own, now);
        self.renew_budgets(now);
        self.expire_deadlines(now);
        if let vector @ 0x20..0x100 = record.vector {
            self.interrupt(vector, now);
        }
        match record.vector {
            _ if evicted => {}
            // Here an interrupt came before the check, which will not be made any more.
            0..0x100 if came_from_a_write => {
                self.fault(current, Some((FaultKind::GateAbuse, "wrote a register of the kernel's")));
            }
            // A word that no exit of this CPU wrote was come by in no honest way.
            0..0x100 if is_unexplained(record) => {
                let text = "ran under a PKRS that the kernel did not write";
                self.fault(current, Some((FaultKind::GateAbuse, text)));
            }
            0x20..0x100 => self.end_if_hung(current),
            VECTOR_CALL => self.call(current),
            VECTOR_REPLY => self.reply(current),
            VECTOR_SYSCALL => self.syscall(current),
            VECTOR_BAD => {
                let record = &mut self.threads[current].record;
                // It has none of its own. What the books have of the thread is of another domain, if the entry code let it pass
                // meanwhile.
                if passed > 0 {
                    *record = Record::default();
                }
                record.vector = VECTOR_BAD;
                self.fault(current, None);
            }
            _ => self.fault(current, None),
        }
        self.end_doomed();
        self.tell_log_reader();
        self.leave_to_next(record);
    }

    /// Decides who runs on this CPU and fills record and cell for the exit.
    fn leave_to_next(&mut self, record: &mut Record) {
        let next = self.schedule();
        // The hook of every switch: the cell always says what the books say of the thread that runs next.
        let Seat { domain, word, .. } = *self.seat(next);
        let written = self.prepare_to_run(domain, word);
        window::set_cell(word, written);
        *record = self.threads[next].record;
        self.cpu(window::cpu()).evicted = false;
        self.arm_passage(next);
        translations::leaving(word);
        window::scrub_nmi_slot();
    }

    /// The first time that a CPU leaves the kernel.
    pub(crate) fn enter_first(&mut self) {
        self.settle_passages();
        self.stand_on_ground();
        self.open_passage();
        // SAFETY: this CPU's own record; nothing was interrupted yet.
        self.leave_to_next(unsafe { &mut *(window::RECORD as *mut Record) });
    }

    /// On its own: a short `event` has short jumps, whose displacements the text's scan has nothing to say of.
    #[inline(never)]
    fn interrupt(&mut self, vector: u64, now: u64) {
        // Written before anything else can go wrong; without an interrupt in service it does nothing.
        apic::end_of_interrupt();
        if vector == u64::from(apic::VECTOR_TIMER) {
            self.watch_cpus(now);
        }
        self.line_interrupt(vector);
    }

    /// Tells the reader of the log that there is more of it.
    fn tell_log_reader(&mut self) {
        let written = crate::log::written();
        if written != self.log_told {
            self.log_told = written;
            match self.log_reader {
                Some(signal) if self.is_heard(&signal) => self.signal(signal),
                Some(_) => self.stop_draining(),
                None => {}
            }
        }
    }
}
