//! Masks interrupts as the protocol promises: both PICs, and the I/O APICs' fixed and
//! lowest-priority entries.

use direct::acpi::Madt;
use x86_64::instructions::port::Port;

const PIC_MASKS: [u16; 2] = [0x21, 0xa1];
const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;
const DELIVERY_LOWEST_PRIORITY: u32 = 1;
const MASKED: u32 = 1 << 16;

/// Masks everything, with the I/O APICs that the MADT names.
pub(crate) fn mask_all(madt: Option<&Madt<'_>>) {
    for port in PIC_MASKS {
        // SAFETY: the write sets a PIC's interrupt mask, or goes nowhere; nothing here waits for
        // an interrupt.
        unsafe { Port::new(port).write(0xffu8) };
    }
    for base in madt.into_iter().flat_map(Madt::io_apics) {
        mask_io_apic(base as usize as *mut u32);
    }
}

/// 82093AA data sheet, 3.1 and 3.2: an index register, and 10h bytes on the data register.
fn mask_io_apic(index: *mut u32) {
    let data = index.wrapping_byte_add(0x10);
    // SAFETY: the MADT, whose checksum is right, says that an I/O APIC's registers are here, and
    // everything below 4 GiB is mapped. They are not memory, so no Rust object is touched.
    let read = |register: u32| unsafe {
        index.write_volatile(register);
        data.read_volatile()
    };
    let last = read(VERSION) >> 16 & 0xff;
    for entry in 0..=last {
        let register = FIRST_ENTRY + 2 * entry;
        let low = read(register);
        if low >> 8 & 7 <= DELIVERY_LOWEST_PRIORITY {
            // SAFETY: as above; `read` left the index at this entry's low half.
            unsafe { data.write_volatile(low | MASKED) };
        }
    }
}
