//! The local APIC: timer, end of interrupt, interrupts between CPUs. xAPIC mode only: its registers are memory under
//! the kernel's key, while in x2APIC mode one WRMSR from any text would send INIT to another CPU.

use super::clock;
use core::sync::atomic::{AtomicU64, Ordering};

/// Vector of the timer.
pub(crate) const VECTOR_TIMER: u8 = 0x20;
/// Vector by which another CPU asks this one into the kernel.
pub(crate) const VECTOR_KICK: u8 = 0x21;
/// First vector of the I/O APIC's lines.
pub(crate) const VECTOR_LINES: u8 = 0x30;
/// Vector of spurious interrupts (low four bits set, as old APICs want).
const VECTOR_SPURIOUS: u8 = 0xff;

const ID: u64 = 0x20;
const TASK_PRIORITY: u64 = 0x80;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const TIMER: u64 = 0x320;
const LINT0: u64 = 0x350;
const LINT1: u64 = 0x360;
const ERROR: u64 = 0x370;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 0b100 << 8;
const ENABLED: u32 = 1 << 8;
const PENDING: u32 = 1 << 12;
/// Level "assert", which every delivery mode but one wants (Intel SDM vol. 3A, 11.6.1).
const ASSERT: u32 = 1 << 14;
const ALL_BUT_SELF: u32 = 0b11 << 18;
/// The highest APIC ID that a command in xAPIC mode reaches; the next one is "all".
pub(crate) const HIGHEST_ID: u32 = 0xfe;

/// Ticks whose duration is measured.
const COUNTED: u64 = 1 << 20;
/// How long the timer is measured.
const INTERVAL_NS: u64 = 1_000_000;

/// Address of the registers; the same on every CPU.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// Timer ticks in a second.
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);
/// Timer ticks in a nanosecond, times 2^32: the timer is set at every exit, and a division would cost more than the rest.
static TICKS_PER_NS: AtomicU64 = AtomicU64::new(0);

fn register(offset: u64) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut((REGISTERS.load(Ordering::Relaxed) + offset) as usize)
}

fn read(offset: u64) -> u32 {
    // SAFETY: `set_registers` was told where the registers are mapped; reading these has no side effect on memory.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: u64, value: u32) {
    // SAFETY: as in `read`; the values written here start a timer or send vectors that the IDT handles.
    unsafe { register(offset).write_volatile(value) }
}

/// Tells where the registers are mapped.
///
/// # Safety
/// One page of this CPU's local APIC, uncached.
pub(crate) unsafe fn set_registers(address: u64) {
    REGISTERS.store(address, Ordering::Relaxed);
}

/// Switches this CPU's APIC on: LINT1 is NMI, everything else masked.
pub(crate) fn start() {
    write(TASK_PRIORITY, 0);
    write(LINT0, MASKED);
    write(LINT1, DELIVER_NMI);
    write(ERROR, MASKED);
    write(TIMER, MASKED | u32::from(VECTOR_TIMER));
    write(DIVIDE, 0b1011); // by 1
    write(SPURIOUS, ENABLED | u32::from(VECTOR_SPURIOUS));
}

/// Measures the timer by the clock, which has been measured.
pub(crate) fn measure_timer() {
    let ns = clock::least_of(|| Some(measure_once())).unwrap_or(0);
    let hz = 1_000_000_000 * COUNTED / ns.max(1);
    write(INITIAL_COUNT, 0);
    TIMER_HZ.store(hz, Ordering::Relaxed);
    TICKS_PER_NS.store(((u128::from(hz) << 32) / 1_000_000_000) as u64, Ordering::Relaxed);
}

/// Nanoseconds in [`COUNTED`] timer ticks, by one interval. The clock is read first at its beginning and last at its end.
fn measure_once() -> u64 {
    write(INITIAL_COUNT, u32::MAX);
    let begun = clock::now_ns();
    let first = read(CURRENT_COUNT);
    while clock::now_ns() - begun < INTERVAL_NS {
        core::hint::spin_loop();
    }
    let last = read(CURRENT_COUNT);
    let ns = clock::now_ns() - begun;
    let ticks = u128::from(first.saturating_sub(last).max(1));
    (u128::from(ns) * u128::from(COUNTED) / ticks) as u64
}

/// Timer ticks in a second.
pub(crate) fn timer_hz() -> u64 {
    TIMER_HZ.load(Ordering::Relaxed)
}

/// Lets the timer interrupt this CPU once, after this many nanoseconds, or as late as it can.
pub(crate) fn set_timer(ns: u64) {
    let ticks = (u128::from(ns) * u128::from(TICKS_PER_NS.load(Ordering::Relaxed))) >> 32;
    write(TIMER, u32::from(VECTOR_TIMER));
    write(INITIAL_COUNT, ticks.clamp(1, u128::from(u32::MAX)) as u32);
}

/// Says that the interrupt in service has been dealt with.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

fn send(apic_id: u32, low: u32) {
    while read(COMMAND_LOW) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(COMMAND_HIGH, apic_id << 24);
    write(COMMAND_LOW, low);
}

/// Asks another CPU into the kernel.
pub(crate) fn kick(apic_id: u32) {
    send(apic_id, ASSERT | u32::from(VECTOR_KICK));
}

/// Sends an NMI.
pub(crate) fn send_nmi(apic_id: u32) {
    send(apic_id, ASSERT | DELIVER_NMI);
}

/// Sends this CPU an NMI. There is no shorthand for that: an NMI may not be sent to "self" (SDM vol. 3A, table 11-3).
pub(crate) fn send_nmi_to_self() {
    send_nmi(read(ID) >> 24);
}

/// Sends an NMI to all other CPUs, if the APIC has been found.
pub(crate) fn send_nmi_to_others() {
    if REGISTERS.load(Ordering::Relaxed) != 0 {
        send(0, ALL_BUT_SELF | ASSERT | DELIVER_NMI);
    }
}
