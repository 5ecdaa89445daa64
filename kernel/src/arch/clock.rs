//! Time: the TSC, measured at boot against the PIT.

use super::insn::{in8, out8, read_tsc};
use core::sync::atomic::{AtomicU64, Ordering};

const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_0: u16 = 0x40;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PIT_GATE: u16 = 0x61;
/// PIT ticks of a measurement: about 2 ms.
const MEASURE_TICKS: u64 = 2_386;
/// How often a clock is measured at most.
const MEASUREMENTS: usize = 24;
/// The two least results agree if they differ by no more than this part.
const AGREEMENT: u64 = 256;
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

/// Measures until the two least results agree, and gives the least. A virtual CPU may stand still at any moment; the
/// measurement must be such that this makes its result larger, never smaller.
pub(super) fn least_of(measure_fn: impl Fn() -> Option<u64>) -> Option<u64> {
    let (mut least, mut second) = (u64::MAX, u64::MAX);
    for _ in 0..MEASUREMENTS {
        let one = measure_fn()?;
        second = second.min(one.max(least));
        least = least.min(one);
        if second - least <= least / AGREEMENT {
            break;
        }
    }
    Some(least)
}

/// Measures the TSC.
pub(crate) fn measure() -> Measured {
    START.store(read_tsc(), Ordering::Relaxed);
    let ticks = least_of(measure_once);
    let tsc_hz = ticks.map_or(FALLBACK_HZ, |ticks| ticks * PIT_HZ / MEASURE_TICKS);
    let scale = ((1_000_000_000u128 << 32) / u128::from(tsc_hz.max(1))) as u64;
    NS_PER_TICK.store(scale, Ordering::Relaxed);
    Measured { tsc_hz, by_pit: ticks.is_some() }
}

/// TSC ticks of one interval; `None` without a PIT.
fn measure_once() -> Option<u64> {
    let start = arm_pit();
    loop {
        // SAFETY: reading port 61h has no side effect; bit 5 is the output of channel 2.
        if unsafe { in8(PIT_GATE) } & 0x20 != 0 {
            return Some(read_tsc() - start);
        }
        if read_tsc() - start > PATIENCE {
            return None;
        }
    }
}

/// Channel 2 counts down once from [`MEASURE_TICKS`] (mode 0), speaker off. Gives the TSC as it was just before.
fn arm_pit() -> u64 {
    let bytes = MEASURE_TICKS.to_le_bytes();
    // SAFETY: channel 2 drives nothing but the speaker, which stays off.
    unsafe {
        out8(PIT_GATE, (in8(PIT_GATE) & !0x02) | 0x01);
        out8(PIT_COMMAND, 0xb0);
        out8(PIT_CHANNEL_2, bytes[0]);
        let start = read_tsc();
        out8(PIT_CHANNEL_2, bytes[1]);
        start
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
