//! COM1, and the end when something is wrong.

use core::fmt::{self, Write};
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// How often the line status is read before a byte is sent regardless, where there is no UART.
const PATIENCE: u32 = 100_000;

/// QEMU's isa-debug-exit device, and the value that stands for a panic before the kernel's tests.
const DEBUG_EXIT: u16 = 0xf4;
const EXIT_PANIC: u8 = 0x12;

/// The console; text on it is best effort.
struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

/// Sets COM1 to 115200 baud, 8 data bits, no parity, with its interrupts off.
pub(crate) fn init() {
    for (register, value) in [(1, 0x00), (3, 0x80), (0, 0x01), (1, 0x00), (3, 0x03), (2, 0x07), (4, 0x03)] {
        outb(COM1 + register, value);
    }
}

/// Prints a line.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    // Com1 never reports an error, and there would be nowhere to report it to.
    let _ = writeln!(Com1, "direct: {text}");
}

/// Prints why the loader cannot go on, ends QEMU if it has the device for it, and halts otherwise.
pub(crate) fn stop(why: fmt::Arguments<'_>) -> ! {
    line(why);
    outb(DEBUG_EXIT, EXIT_PANIC);
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

fn send(byte: u8) {
    let mut status = Port::<u8>::new(LINE_STATUS);
    for _ in 0..PATIENCE {
        // SAFETY: reading COM1's line status has no effect on memory, and without a UART gives FFh.
        if unsafe { status.read() } & TRANSMITTER_EMPTY != 0 {
            break;
        }
    }
    outb(COM1, byte);
}

fn outb(port: u16, value: u8) {
    // SAFETY: the ports are COM1's and the debug exit device's; neither writes to memory.
    unsafe { Port::new(port).write(value) }
}
