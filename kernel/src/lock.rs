//! The kernel's one lock, and who is inside: the state that [`Presence`] lets one CPU at a time have.

use crate::arch::{insn, window};
use crate::boot::MAX_CPUS;
use crate::mem::translations;
use crate::state::Kernel;
use crate::tlb;
use core::cell::UnsafeCell;
use libpks::smp::Presence;

struct State(UnsafeCell<Option<Kernel>>);

// SAFETY: reached only by the holder of `PRESENCE`'s lock.
unsafe impl Sync for State {}

static STATE: State = State(UnsafeCell::new(None));
/// Who is in the kernel, and which translations each CPU must forget before it runs a domain again.
pub(crate) static PRESENCE: Presence<MAX_CPUS, { tlb::RANGES }> = Presence::new();

/// Hands the kernel's state over, once, at the end of bring-up.
///
/// # Safety
/// No other CPU has entered yet.
pub(crate) unsafe fn install(kernel: Kernel) {
    // SAFETY: as the caller promises.
    unsafe { *STATE.0.get() = Some(kernel) };
}

/// Runs as the only CPU in the kernel. Interrupts are off.
pub(crate) fn enter(work_fn: impl FnOnce(&mut Kernel)) {
    let cpu = window::cpu();
    translations::entered();
    PRESENCE.enter(cpu, wait, tlb::forget);
    // SAFETY: this CPU holds the lock; a nested trap or an NMI does not come here.
    let state = unsafe { &mut *STATE.0.get() };
    work_fn(state.as_mut().expect("installed before the first domain runs"));
    PRESENCE.leave(cpu);
}

fn wait() {
    if crate::is_stopped() {
        insn::stop();
    }
    core::hint::spin_loop();
}

/// Whether a CPU is in the kernel or waits to be.
pub(crate) fn is_inside(cpu: usize) -> bool {
    PRESENCE.is_inside(cpu)
}
