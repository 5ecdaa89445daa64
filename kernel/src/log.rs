//! The kernel's log: a ring under the kernel's key that `console` drains. The kernel itself writes to the serial
//! port only until somebody drains it, and when it panics.

use crate::arch::{clock, uart};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use log::{Level, LevelFilter, Metadata, Record};
use spin::Mutex;

/// Bytes that are kept.
const RING_BYTES: usize = 64 * 1024;

/// Bytes that the kernel sends at most of what a reader has left: the port is slow, and nobody else runs meanwhile.
const LEFT_BYTES: u64 = 4096;

struct Ring {
    bytes: [u8; RING_BYTES],
    /// Bytes ever written; the next goes to this position modulo the size.
    written: u64,
}

static RING: Mutex<Ring> = Mutex::new(Ring { bytes: [0; RING_BYTES], written: 0 });
/// Whether the kernel sends its lines to the serial port itself.
static DIRECT: AtomicBool = AtomicBool::new(true);

impl Write for Ring {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.bytes[(self.written % RING_BYTES as u64) as usize] = byte;
            self.written += 1;
        }
        if DIRECT.load(Ordering::Relaxed) {
            uart::send(text.as_bytes());
        }
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mark = match record.level() {
            Level::Error => "ERROR ",
            Level::Warn => "warning: ",
            _ => "",
        };
        line(record.target(), format_args!("{mark}{}", record.args()));
    }

    fn flush(&self) {}
}

/// Writes a line with time and source.
pub(crate) fn line(source: &str, text: fmt::Arguments<'_>) {
    let ms = clock::now_ns() / 1_000_000;
    let mut ring = RING.lock();
    // The ring takes everything.
    let _ = writeln!(ring, "[{:5}.{:03}] {source:<8} {text}", ms / 1000, ms % 1000);
}

/// Text of a domain, in which no control character makes it look like lines of others.
pub(crate) struct Harmless<'a>(pub(crate) &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
    }
}

/// Begins to log.
pub(crate) fn start() {
    uart::start();
    // Fails only if a logger is set already, which would be this one.
    let _ = log::set_logger(&Logger).map(|()| log::set_max_level(LevelFilter::Debug));
}

/// Somebody drains the log from now on, or (`false`) nobody does any more and the kernel sends its lines itself.
pub(crate) fn set_drained(drained: bool) {
    if !drained {
        // Whoever drained it may have left the port in the middle of anything.
        uart::start();
    }
    DIRECT.store(!drained, Ordering::Relaxed);
}

/// What a read gave.
pub(crate) struct Read {
    /// Position of the first byte that was read: later than asked for if older bytes have gone.
    pub(crate) from: u64,
    /// Bytes read.
    pub(crate) bytes: usize,
}

/// Reads from a position on.
pub(crate) fn read(position: u64, to: &mut [u8]) -> Read {
    let ring = RING.lock();
    let oldest = ring.written.saturating_sub(RING_BYTES as u64);
    let from = position.clamp(oldest, ring.written);
    let bytes = to.len().min((ring.written - from) as usize);
    for (n, byte) in to[..bytes].iter_mut().enumerate() {
        *byte = ring.bytes[((from + n as u64) % RING_BYTES as u64) as usize];
    }
    Read { from, bytes }
}

/// What is left to be read from a position on goes to the serial port, the last [`LEFT_BYTES`] of it.
pub(crate) fn send_rest(position: u64) {
    let ring = RING.lock();
    let from = position.max(ring.written.saturating_sub(LEFT_BYTES));
    for at in from..ring.written {
        uart::send(&[ring.bytes[(at % RING_BYTES as u64) as usize]]);
    }
}

/// Bytes ever written.
pub(crate) fn written() -> u64 {
    RING.lock().written
}

/// A panic: the line goes to the serial port whoever holds the ring.
pub(crate) fn panic_line(text: fmt::Arguments<'_>) {
    struct Direct;
    impl Write for Direct {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            uart::send(text.as_bytes());
            Ok(())
        }
    }
    let _ = writeln!(Direct, "{text}");
}
