//! The first serial port, as the kernel itself uses it: before `console` runs, and when the kernel panics.

use super::insn::{in8, out8};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// How often the line status is read before a byte is given up: a machine may have no such port.
const PATIENCE: u32 = 100_000;

/// Sets 115200 baud, 8 data bits, no parity, FIFOs on, interrupts off.
pub(crate) fn start() {
    let settings = [(1, 0x00), (3, 0x80), (0, 0x01), (1, 0x00), (3, 0x03), (2, 0xc7), (4, 0x0b)];
    for (register, value) in settings {
        // SAFETY: COM1 is the kernel's until the console's driver gets it; no register of it touches memory.
        unsafe { out8(COM1 + register, value) };
    }
}

/// Sends bytes, with CR before LF.
pub(crate) fn send(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            send_byte(b'\r');
        }
        send_byte(byte);
    }
}

fn send_byte(byte: u8) {
    for _ in 0..PATIENCE {
        // SAFETY: reading the line status clears error bits only.
        if unsafe { in8(LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
            break;
        }
    }
    // SAFETY: as in `start`.
    unsafe { out8(COM1, byte) };
}
