//! The machine: entry and exit, descriptor tables, the CPU window, interrupt controllers, clock. Nearly all of the
//! kernel's unsafe code is here and in `mem`.

pub(crate) mod acpi;
pub(crate) mod apic;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod insn;
pub(crate) mod ioapic;
pub(crate) mod machine_check;
pub(crate) mod power;
pub(crate) mod protection;
pub(crate) mod record;
pub(crate) mod registers;
pub(crate) mod root;
pub(crate) mod start;
pub(crate) mod uart;
pub(crate) mod window;
