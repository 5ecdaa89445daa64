//! The kernel's one lock, and who is inside.
//!
//! A CPU that is in the kernel, or waits for its lock, touches no domain's memory and runs under no domain's
//! rights; before it leaves it reloads both. So whoever holds the lock and has changed rights or mappings waits only
//! for CPUs that run a domain ([`Kernel::sync_cpus`]).

use crate::arch::{insn, window};
use crate::boot::MAX_CPUS;
use crate::mem::translations;
use crate::state::Kernel;
use crate::tlb;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

struct State(UnsafeCell<Option<Kernel>>);

// SAFETY: reached only by the holder of `HELD`.
unsafe impl Sync for State {}

static STATE: State = State(UnsafeCell::new(None));
static HELD: AtomicBool = AtomicBool::new(false);
static INSIDE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(true) }; MAX_CPUS];

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
    let inside = &INSIDE[window::cpu()];
    translations::entered();
    inside.store(true, Ordering::SeqCst);
    while HELD.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        if crate::is_stopped() {
            insn::stop();
        }
        tlb::forget_stale(window::cpu());
        core::hint::spin_loop();
    }
    tlb::forget_stale(window::cpu());
    // SAFETY: this CPU holds the lock; a nested trap or an NMI does not come here.
    let state = unsafe { &mut *STATE.0.get() };
    work_fn(state.as_mut().expect("installed before the first domain runs"));
    // Still under the lock: who takes it next sees this CPU as running a domain.
    inside.store(false, Ordering::SeqCst);
    HELD.store(false, Ordering::Release);
}

/// Whether a CPU is in the kernel or waits to be.
pub(crate) fn is_inside(cpu: usize) -> bool {
    INSIDE[cpu].load(Ordering::SeqCst)
}
