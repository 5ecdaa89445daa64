//! The vault: a page of each CPU's window that shows text which writes PKRS, CR0, CR3 or any register without a check
//! behind. It can be executed only while the kernel runs a routine of it, with interrupts off, and only on that CPU,
//! because no other maps its window. A domain that jumps there, or to where the text was linked, finds a page that
//! forbids execution.

use super::DIRECT_MAP;
use super::bringup::vault_start;
use super::map::Mapping;
use super::paging::{ADDRESS, Table, index};
use crate::arch::{insn, window};
use crate::boot::MAX_CPUS;
use core::sync::atomic::{AtomicU64, Ordering};
use libpks::pkey::Pkey;

/// Of each CPU, the table of level 1 that maps its vault.
static TABLES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// The same in the CPU's narrow roots, which show the vault while it is open, and not at all when it is shut; 0 if there are none.
static NARROW_TABLES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Tells which table maps a CPU's vault, before that CPU runs.
pub(super) fn found(cpu: usize, table: Table) {
    TABLES[cpu].store(table.0, Ordering::Relaxed);
}

/// Tells which table maps a CPU's vault in its narrow roots.
pub(super) fn found_narrow(cpu: usize, table: Table) {
    NARROW_TABLES[cpu].store(table.0, Ordering::Relaxed);
}

/// What the entry code needs to open this CPU's vault and to shut it: where its leaf lies in the direct map, and the two
/// values of that.
pub(crate) fn leaf() -> (u64, u64, u64) {
    let (table, at) = place();
    let entry = |mapping| entry(table, at, mapping);
    (
        DIRECT_MAP + table.0 + at as u64 * 8,
        entry(Mapping::text(Pkey::KERNEL)),
        entry(Mapping::constant(Pkey::KERNEL)),
    )
}

/// This CPU's table for its vault, and the index in it.
fn place() -> (Table, usize) {
    (Table(TABLES[window::cpu()].load(Ordering::Relaxed)), index(window::VAULT, 1))
}

/// The leaf of the vault with these rights.
fn entry(table: Table, at: usize, mapping: Mapping) -> u64 {
    table.get(at) & ADDRESS | mapping.flags()
}

const _: () = assert!(window::VAULT == 0xffff_ffff_c000_5000, "kernel.ld says where the vault is");

/// Calls a routine of the vault's text, which is position-independent assembly, in the vault of this CPU. `F` is the
/// routine's type, a function pointer.
pub(crate) fn run<F: Copy, R>(routine: F, call_fn: impl FnOnce(F) -> R) -> R {
    let there = alias(routine);
    protect(Mapping::text(Pkey::KERNEL));
    let result = call_fn(there);
    protect(Mapping::constant(Pkey::KERNEL));
    result
}

/// Gives this CPU's vault other rights. Nothing else runs here meanwhile, for interrupts are off.
fn protect(mapping: Mapping) {
    let (table, at) = place();
    let entry = entry(table, at, mapping);
    table.set(at, entry);
    let narrow = NARROW_TABLES[window::cpu()].load(Ordering::Relaxed);
    if narrow != 0 {
        Table(narrow).set(at, if mapping.executable { entry } else { 0 });
    }
    insn::invalidate_page(window::VAULT);
}

/// How far the vault lies above the text that it shows.
pub(crate) fn offset() -> u64 {
    window::VAULT - vault_start()
}

/// A routine of the vault's text where the vault shows it. It can be called only while the vault is open.
pub(crate) fn alias<F: Copy>(routine: F) -> F {
    const { assert!(size_of::<F>() == size_of::<u64>()) };
    // SAFETY: a function pointer has the size of its address and may have any value while it is not called.
    let linked = unsafe { core::mem::transmute_copy::<F, u64>(&routine) };
    let moved = linked.wrapping_add(offset());
    // SAFETY: the vault shows the same frame; the routines are assembly that refers to itself by distance only.
    unsafe { core::mem::transmute_copy::<u64, F>(&moved) }
}
