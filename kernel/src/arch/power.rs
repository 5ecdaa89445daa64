//! Turning the machine off and starting it again.

use super::acpi::SoftOff;
use super::clock;
use super::insn::{in8, out8, out16, out32};

const RESET_CONTROL: u16 = 0xcf9;
const KEYBOARD_COMMAND: u16 = 0x64;
const DEBUG_EXIT: u16 = 0xf4;
const SLEEP_ENABLE: u16 = 1 << 13;

/// Exit code that QEMU's isa-debug-exit device turns into 37: the kernel panicked.
pub(crate) const EXIT_PANIC: u32 = 0x12;

/// How long a machine may take to go off.
const PATIENCE_NS: u64 = 500_000_000;

/// Turns the machine off (ACPI S5). Returns if it stays on.
pub(crate) fn off(soft_off: SoftOff) {
    // SAFETY: the port and the value are what the firmware's tables name for this.
    unsafe { out16(soft_off.port, SLEEP_ENABLE | (u16::from(soft_off.sleep_type) << 10)) };
    let begin = clock::now_ns();
    while clock::now_ns() - begin < PATIENCE_NS {
        core::hint::spin_loop();
    }
}

/// Starts the machine again: the reset control register, then the keyboard controller. Returns if neither works.
pub(crate) fn reboot() {
    // SAFETY: a reset ends everything; where these ports are something else, on no PC, nothing of memory is touched.
    unsafe {
        out8(RESET_CONTROL, 0x02);
        out8(RESET_CONTROL, 0x06);
        for _ in 0..1_000_000 {
            if in8(KEYBOARD_COMMAND) & 0x02 == 0 {
                break;
            }
        }
        out8(KEYBOARD_COMMAND, 0xfe);
    }
}

/// Ends QEMU if it has the isa-debug-exit device at its usual port; does nothing elsewhere.
pub(crate) fn debug_exit(code: u32) {
    // SAFETY: the port is unused on a PC but for this device.
    unsafe { out32(DEBUG_EXIT, code) };
}
