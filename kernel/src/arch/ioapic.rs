//! The I/O APICs: interrupt lines of the ISA bus and of the machine, each to a vector of its own.

use super::acpi::{Controllers, Polarity, Trigger};
use super::apic::VECTOR_LINES;
use super::clock;
use crate::mem::{self, MapError};

const REDIRECTION: u32 = 0x10;
const VERSION: u32 = 0x01;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const DELIVER_NMI: u32 = 0b100 << 8;
/// The PIT's line of the ISA bus.
const TIMER_LINE: u8 = 0;

/// How many lines the kernel hands out, each with a vector from [`VECTOR_LINES`] on.
pub(crate) const LINES: u8 = 24;

struct IoApic {
    registers: u64,
    first_line: u32,
    lines: u32,
}

/// The controllers and how ISA lines reach them.
pub(crate) struct IoApics {
    chips: heapless::Vec<IoApic, 8>,
    controllers: Controllers,
    /// Whether the PIT's line sends NMIs, so that nobody else can have it.
    watched: bool,
}

impl IoApic {
    fn select(&self, register: u32) -> *mut u32 {
        let base: *mut u32 = core::ptr::with_exposed_provenance_mut(self.registers as usize);
        // SAFETY: `start` mapped the page of this chip's registers; IOREGSEL selects, nothing more.
        unsafe { base.write_volatile(register) };
        base.wrapping_add(4)
    }

    fn read(&self, register: u32) -> u32 {
        // SAFETY: IOWIN shows the register just selected; the kernel's lock is held.
        unsafe { self.select(register).read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in `read`; the entries written name vectors that the IDT handles.
        unsafe { self.select(register).write_volatile(value) }
    }
}

impl IoApics {
    /// Maps the controllers and masks all lines.
    ///
    /// # Errors
    /// [`MapError`] if there is no memory for the mapping.
    pub(crate) fn start(controllers: Controllers) -> Result<IoApics, MapError> {
        let mut chips = heapless::Vec::new();
        for chip in &controllers.io_apics {
            let registers = mem::with(|memory| memory.map_device(u64::from(chip.address), 0x20))?;
            let mut chip = IoApic { registers, first_line: chip.first_line, lines: 0 };
            chip.lines = ((chip.read(VERSION) >> 16) & 0xff) + 1;
            for line in 0..chip.lines {
                chip.write(REDIRECTION + 2 * line, MASKED);
            }
            let _ = chips.push(chip);
        }
        Ok(IoApics { chips, controllers, watched: false })
    }

    /// Where an ISA line arrives, and how.
    fn route(&self, line: u8) -> (u32, u32) {
        let over = self.controllers.overrides.iter().find(|over| over.isa_line == line);
        let Some(over) = over else {
            return (u32::from(line), if line < 16 { 0 } else { LEVEL | ACTIVE_LOW });
        };
        let trigger = if over.trigger == Trigger::Level { LEVEL } else { 0 };
        let polarity = if over.polarity == Polarity::Low { ACTIVE_LOW } else { 0 };
        (over.line, trigger | polarity)
    }

    fn chip_of(&self, global: u32) -> Option<(&IoApic, u32)> {
        let chip = self.chips.iter().find(|c| (c.first_line..c.first_line + c.lines).contains(&global))?;
        Some((chip, REDIRECTION + 2 * (global - chip.first_line)))
    }

    /// Lets the PIT send an NMI to a CPU 18 times a second, where there is one CPU and so no other to watch it: a domain
    /// that has switched interrupts off gets them on again.
    pub(crate) fn start_watchdog(&mut self, apic_id: u32) {
        if let Some((chip, register)) = self.chip_of(self.route(TIMER_LINE).0) {
            chip.write(register + 1, apic_id << 24);
            chip.write(register, DELIVER_NMI);
            clock::start_pit();
            self.watched = true;
        }
    }

    /// Whether there is such a line.
    pub(crate) fn has(&self, line: u8) -> bool {
        line < LINES && !(self.watched && line == TIMER_LINE) && self.chip_of(self.route(line).0).is_some()
    }

    /// Whether a line stays raised until its device is served, so that it is masked meanwhile.
    pub(crate) fn is_level(&self, line: u8) -> bool {
        self.route(line).1 & LEVEL != 0
    }

    /// Masks a line, or lets it interrupt the CPU with this APIC.
    pub(crate) fn set_masked(&self, line: u8, masked: bool, apic_id: u32) {
        let (global, mode) = self.route(line);
        if let Some((chip, register)) = self.chip_of(global) {
            chip.write(register + 1, apic_id << 24);
            chip.write(register, u32::from(VECTOR_LINES + line) | mode | if masked { MASKED } else { 0 });
        }
    }
}
