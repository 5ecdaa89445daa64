//! What the firmware's tables say: interrupt controllers, and how to turn the machine off. Tables are parsed by the
//! crate `acpi`; without any, a PC's usual addresses are assumed.

use crate::mem;
use ::acpi::fadt::Fadt;
use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApicAt {
    pub(crate) address: u32,
    pub(crate) first_line: u32,
}

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trigger {
    Edge,
    Level,
}

/// Which level means that it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Polarity {
    High,
    Low,
}

/// An ISA line that does not arrive at the line with its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Override {
    pub(crate) isa_line: u8,
    pub(crate) line: u32,
    pub(crate) trigger: Trigger,
    pub(crate) polarity: Polarity,
}

/// The interrupt controllers of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Controllers {
    pub(crate) io_apics: heapless::Vec<IoApicAt, 8>,
    pub(crate) overrides: heapless::Vec<Override, 16>,
}

/// How the machine is turned off: ports and values of FADT and DSDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SoftOff {
    /// Port of the PM1a control register.
    pub(crate) port: u16,
    /// What goes into its sleep type field.
    pub(crate) sleep_type: u8,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    pub(crate) controllers: Controllers,
    pub(crate) soft_off: Option<SoftOff>,
    /// Whether there were tables at all.
    pub(crate) has_tables: bool,
}

/// Maps what the crate asks for, read-only in effect, for good: a few pages, at boot.
#[derive(Clone)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, physical: usize, size: usize) -> PhysicalMapping<Self, T> {
        // The crate looks at all fields of a table before it asks which of them an old, shorter one has.
        let size = size.max(size_of::<T>());
        let address = mem::with(|memory| memory.map_device(physical as u64, size as u64));
        let pointer =
            address.ok().and_then(|a| NonNull::new(core::ptr::with_exposed_provenance_mut(a as usize)));
        let start = pointer.expect("memory for a mapping at boot");
        // SAFETY: `size` bytes from `start` are mapped to `physical` for good.
        unsafe { PhysicalMapping::new(physical, start, size, size, Self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables.
pub(crate) fn read(rsdp: Option<u64>) -> Platform {
    let tables = rsdp.and_then(|rsdp| {
        // SAFETY: the loader says that the RSDP is there; what the tables point to is mapped, never executed, and
        // checked by the crate (signatures, lengths, checksums).
        unsafe { AcpiTables::from_rsdp(Mapper, rsdp as usize) }
            .inspect_err(|error| log::warn!(target: "acpi", "tables are not usable: {error:?}"))
            .ok()
    });
    let Some(tables) = tables else {
        return Platform { controllers: usual_controllers(), ..Platform::default() };
    };
    let mut controllers = Controllers::default();
    match tables.find_table::<Madt>() {
        Ok(madt) => collect(&madt, &mut controllers),
        Err(error) => log::warn!(target: "acpi", "no table of interrupt controllers: {error:?}"),
    }
    if controllers.io_apics.is_empty() {
        controllers = usual_controllers();
    }
    Platform { controllers, soft_off: soft_off(&tables), has_tables: true }
}

/// What every PC with one I/O APIC has.
fn usual_controllers() -> Controllers {
    let mut controllers = Controllers::default();
    let _ = controllers.io_apics.push(IoApicAt { address: 0xfec0_0000, first_line: 0 });
    let timer = Override { isa_line: 0, line: 2, trigger: Trigger::Edge, polarity: Polarity::High };
    let _ = controllers.overrides.push(timer);
    controllers
}

fn collect(madt: &PhysicalMapping<Mapper, Madt>, controllers: &mut Controllers) {
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(chip) => {
                let at =
                    IoApicAt { address: chip.io_apic_address, first_line: chip.global_system_interrupt_base };
                let _ = controllers.io_apics.push(at);
            }
            MadtEntry::InterruptSourceOverride(over) => {
                // MPS INTI flags (ACPI 6.5, table 5.26): 3 means active low, level; 0 as the bus has it (ISA:
                // high, edge).
                let over = Override {
                    isa_line: over.irq,
                    line: over.global_system_interrupt,
                    trigger: if (over.flags >> 2) & 3 == 3 { Trigger::Level } else { Trigger::Edge },
                    polarity: if over.flags & 3 == 3 { Polarity::Low } else { Polarity::High },
                };
                let _ = controllers.overrides.push(over);
            }
            _ => {}
        }
    }
}

/// The port from FADT and the sleep type from the package `_S5_` in the DSDT's byte code (ACPI 6.5, 7.4.2.6 and
/// 20.2.5.4): NameOp, the name, PackageOp, lengths, then the first element as a byte.
fn soft_off(tables: &AcpiTables<Mapper>) -> Option<SoftOff> {
    let fadt = tables.find_table::<Fadt>().ok()?;
    let port = u16::try_from(fadt.pm1a_control_block().ok()?.address).ok()?;
    let dsdt = tables.dsdt().ok()?;
    let length = dsdt.length as usize;
    // SAFETY: the crate has read the length from the table's header; the mapping is for reading and stays.
    let mapping = unsafe { Mapper.map_physical_region::<u8>(dsdt.address, length) };
    // SAFETY: `length` bytes are mapped there and nobody writes them.
    let code = unsafe { core::slice::from_raw_parts(mapping.virtual_start().as_ptr(), length) };
    let sleep_type = sleep_type_in(code)?;
    Some(SoftOff { port, sleep_type })
}

/// Finds the first element of the package `_S5_`.
fn sleep_type_in(code: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE: u8 = 0x0a;
    let at = code.windows(5).position(|window| &window[..4] == b"_S5_" && window[4] == PACKAGE)?;
    // PkgLength: the two upper bits say how many bytes follow the first. Then the element count.
    let length = code.get(at + 5)? >> 6;
    let element = at + 5 + 1 + usize::from(length) + 1;
    match *code.get(element)? {
        BYTE => code.get(element + 1).copied(),
        // ZeroOp and OneOp.
        value @ (0 | 1) => Some(value),
        _ => None,
    }
}
