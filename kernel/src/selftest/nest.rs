//! Traps inside one another, as many as there are stacks for and more, and stacks that overflow.

use super::{NMI_PKRS, NMI_WATCHED, NMIS};
use crate::arch::protection::live_pkrs;
use crate::arch::{apic, window};
use crate::mem::vault;
use crate::state::Kernel;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, Ordering};
use libpks::abi::Error;

/// Levels of traps inside the event kernel that have a stack.
const LEVELS: usize = window::DEEPEST as usize - 1;

/// What a level saw.
struct Level {
    /// PKRS when its handler began, and when whatever it was interrupted by had returned.
    before: AtomicU32,
    after: AtomicU32,
    /// DEPTH in its handler.
    depth: AtomicU32,
}

/// One nest at a time: the kernel's lock is held.
static SEEN: [Level; LEVELS] =
    [const { Level { before: AtomicU32::new(0), after: AtomicU32::new(0), depth: AtomicU32::new(0) } };
        LEVELS];
/// Breakpoints that are still to be taken, each in the handler of the one before.
static LEFT: AtomicU32 = AtomicU32::new(0);
/// What the innermost handler does.
static INNERMOST: AtomicU32 = AtomicU32::new(NOTHING);

const NOTHING: u32 = 0;
const NMI: u32 = 1;
const OVERFLOW: u32 = 2;

type Breakpoint = unsafe extern "C" fn();

/// A breakpoint inside the kernel.
///
/// # Safety
/// At DEPTH 1 or more, the vault being open; [`super::mend`] lets it go on.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn breakpoint() {
    naked_asm!(
        "2: int3",
        "3: ret",
        ".pushsection .fixups,\"a\"",
        ".quad 3b, 3b", // INT3 is a trap: RIP is behind it
        ".popsection",
    )
}

/// In the handler of a breakpoint: what it sees, and the next breakpoint inside it.
pub(super) fn note_breakpoint() {
    let depth = window::depth();
    let seen = SEEN.get(depth as usize - 2);
    if let Some(level) = seen {
        level.depth.store(depth, Ordering::SeqCst);
        level.before.store(live_pkrs().raw(), Ordering::SeqCst);
    }
    let left = LEFT.load(Ordering::SeqCst).saturating_sub(1);
    LEFT.store(left, Ordering::SeqCst);
    if left > 0 {
        // SAFETY: the vault is open, for a breakpoint in it brought us here; what it traps into lets it go on.
        unsafe { vault::alias(breakpoint as Breakpoint)() };
    } else {
        match INNERMOST.load(Ordering::SeqCst) {
            NMI => take_nmi(),
            OVERFLOW => drop(exhaust_stack(0)),
            _ => {}
        }
    }
    if let Some(level) = seen {
        level.after.store(live_pkrs().raw(), Ordering::SeqCst);
    }
}

/// Sends this CPU an NMI and waits until it has been handled.
fn take_nmi() {
    let before = NMIS.load(Ordering::SeqCst);
    NMI_WATCHED.store(1, Ordering::SeqCst);
    apic::send_nmi_to_self();
    while NMIS.load(Ordering::SeqCst) == before {
        core::hint::spin_loop();
    }
    NMI_WATCHED.store(0, Ordering::SeqCst);
}

/// Calls itself until the stack is full.
#[inline(never)]
#[expect(unconditional_recursion, reason = "it ends at the guard page")]
fn exhaust_stack(depth: u64) -> u64 {
    core::hint::black_box(exhaust_stack(core::hint::black_box(depth + 1))) + depth
}

impl Kernel {
    /// Breakpoints inside one another; what the level that is asked for saw.
    pub(super) fn nested_trap(
        &mut self,
        [levels, innermost, asked, ..]: [u64; 6],
    ) -> Result<[u64; 8], Error> {
        let levels = usize::try_from(levels).ok().filter(|&levels| (1..=LEVELS).contains(&levels));
        let levels = levels.ok_or(Error::InvalidArgument)?;
        let asked =
            usize::try_from(asked).ok().filter(|&asked| asked < levels).ok_or(Error::InvalidArgument)?;
        if innermost > u64::from(NMI) {
            return Err(Error::InvalidArgument);
        }
        NMI_PKRS.store(0, Ordering::SeqCst);
        let before = live_pkrs().raw();
        nest(levels as u32, innermost as u32);
        let after = live_pkrs().raw();
        let level = &SEEN[asked];
        let reached = SEEN.iter().filter(|level| level.depth.load(Ordering::SeqCst) != 0).count();
        Ok([
            u64::from(before),
            u64::from(level.before.load(Ordering::SeqCst)),
            u64::from(level.after.load(Ordering::SeqCst)),
            u64::from(after),
            u64::from(level.depth.load(Ordering::SeqCst)),
            u64::from(NMI_PKRS.load(Ordering::SeqCst)),
            reached as u64,
            0,
        ])
    }

    /// Fills a stack of the kernel, or the stack of stacks. Never returns if that is caught as it should be.
    pub(super) fn overflow(&mut self, what: u64) -> Result<[u64; 8], Error> {
        match what {
            0 => drop(exhaust_stack(0)),
            1 => nest(1, OVERFLOW),
            2 => nest(LEVELS as u32 + 1, NOTHING),
            _ => return Err(Error::InvalidArgument),
        }
        Err(Error::WrongState)
    }
}

/// Takes this many breakpoints, each in the handler of the one before.
fn nest(levels: u32, innermost: u32) {
    for level in &SEEN {
        level.depth.store(0, Ordering::SeqCst);
        level.before.store(0, Ordering::SeqCst);
        level.after.store(0, Ordering::SeqCst);
    }
    LEFT.store(levels, Ordering::SeqCst);
    INNERMOST.store(innermost, Ordering::SeqCst);
    // SAFETY: at DEPTH 1; the breakpoint is in the table of fix-ups.
    vault::run(breakpoint as Breakpoint, |breakpoint| unsafe { breakpoint() });
}
