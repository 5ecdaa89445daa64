//! Time: the TSC, measured once against the PIT.

use super::insn::{in8, out8, read_tsc};
use core::sync::atomic::{AtomicU64, Ordering};

const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_0: u16 = 0x40;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PIT_GATE: u16 = 0x61;
/// PIT ticks of the measurement: about 10 ms.
const MEASURE_TICKS: u64 = 11_932;
/// TSC ticks after which the PIT is believed to be absent.
const PATIENCE: u64 = 2_000_000_000;
/// What is assumed then.
const FALLBACK_HZ: u64 = 1_000_000_000;

/// TSC at boot.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per TSC tick, times 2^32; 0 before the measurement.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);

/// What the measurement found.
pub(crate) struct Measured {
    /// TSC ticks a second.
    pub(crate) tsc_hz: u64,
    /// Whether the PIT was there to measure against.
    pub(crate) by_pit: bool,
}

/// Measures the TSC, and calls `before_fn` and `after_fn` at the ends of the interval, so that another counter can
/// be measured along. Gives the interval's length in nanoseconds.
pub(crate) fn measure(before_fn: impl FnOnce(), after_fn: impl FnOnce()) -> (Measured, u64) {
    START.store(read_tsc(), Ordering::Relaxed);
    arm_pit();
    before_fn();
    let start = read_tsc();
    let by_pit = loop {
        // SAFETY: reading port 61h has no side effect; bit 5 is the output of channel 2.
        if unsafe { in8(PIT_GATE) } & 0x20 != 0 {
            break true;
        }
        if read_tsc() - start > PATIENCE {
            break false;
        }
    };
    let ticks = read_tsc() - start;
    after_fn();
    let tsc_hz = if by_pit { ticks * PIT_HZ / MEASURE_TICKS } else { FALLBACK_HZ };
    let scale = ((1_000_000_000u128 << 32) / u128::from(tsc_hz.max(1))) as u64;
    NS_PER_TICK.store(scale, Ordering::Relaxed);
    (Measured { tsc_hz, by_pit }, to_ns(ticks, scale))
}

/// Channel 2 counts down once from [`MEASURE_TICKS`] (mode 0), speaker off.
fn arm_pit() {
    let bytes = MEASURE_TICKS.to_le_bytes();
    // SAFETY: channel 2 drives nothing but the speaker, which stays off.
    unsafe {
        out8(PIT_GATE, (in8(PIT_GATE) & !0x02) | 0x01);
        out8(PIT_COMMAND, 0xb0);
        out8(PIT_CHANNEL_2, bytes[0]);
        out8(PIT_CHANNEL_2, bytes[1]);
    }
}

/// Lets channel 0 pulse at its slowest, 18.2 times a second (mode 2, count 65536).
pub(crate) fn start_pit() {
    // SAFETY: what the pulses do is up to the I/O APIC, which the kernel alone programs.
    unsafe {
        out8(PIT_COMMAND, 0x34);
        out8(PIT_CHANNEL_0, 0);
        out8(PIT_CHANNEL_0, 0);
    }
}

fn to_ns(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// Nanoseconds since boot; 0 before the measurement.
pub(crate) fn now_ns() -> u64 {
    let scale = NS_PER_TICK.load(Ordering::Relaxed);
    to_ns(read_tsc().saturating_sub(START.load(Ordering::Relaxed)), scale)
}
