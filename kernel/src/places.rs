//! Where the kernel has what a hostile domain would like to reach, for whoever holds Inspect: the attack suite aims
//! there. Addresses are no secret, and nothing rests on their being one.

use crate::arch::entry::{self, Sites};
use crate::arch::{idt, insn, registers, window};
use crate::mem::{self, PAGE, PageTables};
use crate::trap;
use core::sync::atomic::AtomicU64;
use libpks::abi::inspect::{PlaceInfo, PlaceKind};
use libpks::abi::{Name, name};

/// A word that nobody uses, among the kernel's variables.
static VARIABLE: AtomicU64 = AtomicU64::new(0x6b65_726e_656c);
/// And one among its constants.
static CONSTANT: u64 = 0x6b65_726e_656c;

/// The place at a position, if there is one.
pub(crate) fn nth(position: usize) -> Option<PlaceInfo> {
    let at = |name, kind, address| PlaceInfo { name, kind, address };
    let fixed = fixed().into_iter().map(|(text, kind, address)| at(name(text), kind, address));
    let slots = (1..=6).map(|n| at(numbered("slot", n), PlaceKind::Slot, window::slot_top(n)));
    let Sites { writes, reads, .. } = entry::pkrs_sites();
    let writes = writes.iter().enumerate().map(|(n, &site)| {
        let kind = if takes_word(site) { PlaceKind::TakesWord } else { PlaceKind::GivesWord };
        at(numbered("wrmsr", n as u64), kind, site)
    });
    let reads = reads
        .iter()
        .enumerate()
        .map(|(n, &site)| at(numbered("rdmsr", n as u64), PlaceKind::ReadsWord, site));
    let others = crate::roots().iter().enumerate().skip(1).filter_map(|(cpu, &root)| {
        Some(at(numbered("window of cpu", cpu as u64), PlaceKind::Private, books_of(root)?))
    });
    fixed.chain(slots).chain(writes).chain(reads).chain(others).nth(position)
}

fn numbered(text: &str, number: u64) -> Name {
    let mut numbered = name(text);
    // Names that do not fit are cut; none is so long.
    let _ = core::fmt::write(&mut numbered, format_args!(" {number}"));
    numbered
}

fn fixed() -> impl IntoIterator<Item = (&'static str, PlaceKind, u64)> {
    use PlaceKind::*;
    let root = crate::roots().first().copied().unwrap_or(0);
    [
        ("kernel variable", Private, (&raw const VARIABLE).addr() as u64),
        ("kernel constant", Private, (&raw const CONSTANT).addr() as u64),
        ("kernel text", Private, trap::kernel_event as *const () as u64),
        ("direct map", Private, mem::DIRECT_MAP + (1 << 20)),
        ("page table", Private, mem::DIRECT_MAP + root),
        ("kernel tables", Private, mem::KERNEL_TABLES),
        ("device registers", Private, mem::DEVICES),
        ("depth", Private, window::DEPTH),
        ("record", Private, window::RECORD),
        ("constants to write", Private, window::CONSTANTS_ALIAS),
        ("event stack", Private, window::KERNEL_STACK.top - 8),
        ("nmi stack", Private, window::NMI_STACK.top - 8),
        ("nested stack", Private, window::nested_stack(2).top - 8),
        ("vault", Private, window::VAULT),
        ("cell", Constant, window::CELL),
        ("gdt", Constant, window::TABLES),
        ("tss", Constant, window::TABLES + 0x100),
        ("idt", Constant, idt::address()),
        ("bring-up text", Gone, insn::init::write_cr3 as *const () as u64),
        ("guard of the event stack", Gone, window::KERNEL_STACK.bottom - PAGE),
        ("kernel_event", Function, trap::kernel_event as *const () as u64),
        ("kernel_nmi", Function, trap::kernel_nmi as *const () as u64),
        ("trap_exit", Function, entry::enter as *const () as u64),
        ("put_right", Function, registers::put_right as *const () as u64),
        ("invlpg", Instruction, insn::invalidate_page as *const () as u64),
        ("mov from cr2", Instruction, insn::read_cr2 as *const () as u64),
        ("mov from cr3", Instruction, insn::read_cr3 as *const () as u64),
        ("mov from cr4", Instruction, insn::read_cr4 as *const () as u64),
        ("rdtsc", Instruction, insn::read_tsc as *const () as u64),
        ("landing", Landing, entry::gate_landing_address()),
    ]
}

/// Whether the WRMSR at an address follows the MOV of the kernel's word into RAX. The others write what CELL holds.
fn takes_word(site: u64) -> bool {
    let before = (site - 4) as *const [u8; 4];
    // SAFETY: the table lists instructions of the kernel's text, with more text before each.
    unsafe { before.read_unaligned() == (window::KERNEL as u32).to_le_bytes() }
}

/// Where the direct map shows what a CPU's window holds of DEPTH.
fn books_of(root: u64) -> Option<u64> {
    let levels = mem::with(|memory| memory.tables.levels);
    let leaf = PageTables::at(root, levels).walk(window::DEPTH)?;
    Some(mem::DIRECT_MAP + leaf.frame(window::DEPTH))
}
