//! Walks every mapping of every CPU and checks the rules that the rest of the kernel relies on.
//!
//! 1. Nothing is writable and executable; nothing is executable but the kernel's text and images in slots.
//! 2. Out of the keys' reach (`arch::protection`) are the pages that the CPU must reach under any PKRS (the IDT; in each
//!    window constants, trap slots, descriptor tables) and the test page, nothing else. Of the former only the trap slots are writable.
//! 3. No page that keys cover carries key 0, which is open to every domain. Every CPU has slots
//!    and books of its own.
//! 4. The direct map carries the kernel's key everywhere, and maps read-only every frame that is mapped executable
//!    elsewhere.
//! 5. Slots carry the key of their domain. Regions carry the kernel's in its own root, and in a view that of their class
//!    there; nothing there carries key 0.
//! 6. Nothing is mapped outside of the areas that `mem` lists.
//! 7. A view shows the slots of its own domains and the regions that they hold, and nothing else of either; of all other
//!    memory every root of a view shows what its CPU's own root does.
//! 8. A narrow root shows what its word opens of its view's slots and regions, as far as the word opens it, and nothing that the
//!    word closes but the text of gates and stubs.

use super::bringup::{self, TOP_SPAN};
use super::map::{Leaf, PageTables};
use super::paging::{ADDRESS, Table, is_leaf, is_present};
use super::view::is_region;
use super::{
    DEVICES, DIRECT_MAP, DIRECT_MAP_BYTES, KERNEL_TABLES, KERNEL_TABLES_BYTES, PAGE, UNKEYED_TEST_PAGE,
};
use crate::arch::{entry, window};
use crate::boot::MAX_CPUS;
use crate::object::Ref;
use crate::state::Kernel;
use crate::view::View;
use heapless::Vec;
use libpks::abi::layout;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::table::Table as _;

/// What an audit found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Audit {
    /// Pages, of whatever size.
    pub(crate) pages: u64,
    /// Rules broken; the log names the first ones.
    pub(crate) broken: u64,
}

/// Broken rules that are named in the log.
const NAMED: u64 = 8;

/// Audits the mappings of every CPU whose root is given, the first in full, of the others what they do not share
/// with it; and what every view has of its own.
pub(crate) fn run(kernel: &Kernel, roots: &[u64]) -> Audit {
    let mut audit = Audit::default();
    let levels = super::with(|memory| memory.tables.levels);
    let mut note = |address: u64, leaf: Leaf, rule: Option<&'static str>| {
        audit.pages += 1;
        if let Some(rule) = rule {
            audit.broken += 1;
            if audit.broken <= NAMED {
                log::error!(target: "audit", "{address:#018x} {:#x}: {rule}", leaf.entry);
            }
        }
    };
    let mut own_frames: Vec<u64, { 2 * MAX_CPUS }> = Vec::new();
    let first = roots.first().map(|&root| Table(root));
    for (number, &root) in roots.iter().enumerate() {
        let shared = first.filter(|_| number > 0);
        walk(Table(root), shared, levels, 0, Above::ALL, &mut |address, leaf| {
            let mut rule = broken_rule(address, leaf).or_else(|| owner_rule(kernel, address, leaf.key()));
            if matches!(address, window::SLOTS | window::PER_CPU) {
                let frame = leaf.frame(address);
                if own_frames.contains(&frame) || own_frames.push(frame).is_err() {
                    rule = rule.or(Some("another CPU has the same frame"));
                }
            }
            note(address, leaf, rule);
        });
    }
    for at in kernel.all_views() {
        let tables = &kernel.views[at].tables;
        let [uneven, foreign] = tables.odd_entries(roots);
        let mut odd = |address: Option<u64>, rule| {
            if let Some(address) = address {
                note(address, Leaf { entry: 0, level: 4, user: false }, Some(rule));
            }
        };
        odd(uneven, "a CPU has another entry in a view");
        odd(foreign, "a view has another entry for the kernel's memory");
        tables.each_own(|level3, base| {
            walk(level3, None, 3, base, Above::ALL, &mut |address, leaf| {
                note(
                    address,
                    leaf,
                    broken_rule(address, leaf).or_else(|| view_rule(kernel, at, address, leaf.key())),
                );
            });
        });
    }
    audit_narrow(kernel, levels, &mut note);
    audit
}

/// What entries above a leaf allow.
#[derive(Clone, Copy)]
struct Above {
    user: bool,
    writable: bool,
}

impl Above {
    const ALL: Self = Above { user: true, writable: true };
}

/// Every narrow root that is as its view is now.
fn audit_narrow(kernel: &Kernel, levels: u8, note_fn: &mut dyn FnMut(u64, Leaf, Option<&'static str>)) {
    for roots in (0..kernel.narrow_roots.len()).filter_map(|cpu| kernel.narrow_roots.get(cpu)) {
        roots.each(|number, word, changes, root| {
            let view = kernel.views.at_number(number).map(|at| &kernel.views[at].tables);
            let Some(view) = view.filter(|view| view.changes() == changes) else { return };
            walk(root, None, levels, 0, Above::ALL, &mut |address, leaf| {
                let rule = broken_rule(address, leaf).or_else(|| narrow_rule(word, address, leaf));
                note_fn(address, leaf, rule);
            });
            let narrow = PageTables::at(root.0, levels);
            view.each_own(|level3, base| {
                walk(level3, None, 3, base, Above::ALL, &mut |address, leaf| {
                    if word.rights(leaf.key()) > Rights::NoAccess && narrow.walk(address).is_none() {
                        note_fn(address, leaf, Some("a narrow root does not show what its word opens"));
                    }
                });
            });
        });
    }
}

/// What is wrong with a page that a narrow root shows.
fn narrow_rule(word: Pkrs, address: u64, leaf: Leaf) -> Option<&'static str> {
    let access = if leaf.writable() { Access::Write } else { Access::Read };
    let stub = entry::pages().any(|page| page == address) && !leaf.writable();
    let open = !leaf.is_keyed() || word.permits(leaf.key(), access, true) || stub;
    (!open).then_some("a narrow root shows what its word closes")
}

/// Calls with every leaf below a table, but for what it shares with another one. What an entry above forbids to write is
/// read-only in the leaf, too.
fn walk(
    table: Table,
    shared: Option<Table>,
    level: u8,
    base: u64,
    above: Above,
    leaf_fn: &mut dyn FnMut(u64, Leaf),
) {
    for n in 0..512 {
        let entry = table.get(n);
        let other = shared.map_or(0, |shared| shared.get(n));
        if !is_present(entry) || entry == other {
            continue;
        }
        let address = canonical(base | (n as u64) << (12 + 9 * (u64::from(level) - 1)), level);
        let above = Above { user: above.user && entry & 4 != 0, writable: above.writable && entry & 2 != 0 };
        if is_leaf(entry, level) {
            let entry = if above.writable { entry } else { entry & !2 };
            leaf_fn(address, Leaf { entry, level, user: above.user });
        } else {
            let below = (is_present(other) && !is_leaf(other, level)).then_some(Table(other & ADDRESS));
            walk(Table(entry & ADDRESS), below, level - 1, address, above, leaf_fn);
        }
    }
}

/// Extends the sign of an address that was made at the root.
fn canonical(address: u64, level: u8) -> u64 {
    let top = 12 + 9 * u64::from(level) - 1;
    if level >= 4 && address >> top & 1 == 1 { address | !0 << top } else { address }
}

fn broken_rule(address: u64, leaf: Leaf) -> Option<&'static str> {
    if leaf.writable() && leaf.executable() {
        return Some("writable and executable");
    }
    if leaf.is_keyed() == (is_outside_of_keys(address) || address == UNKEYED_TEST_PAGE) {
        return Some("reached under any PKRS, or not, against the rule");
    }
    if leaf.writable() && is_outside_of_keys(address) && address != window::SLOTS {
        return Some("what the CPU reads by itself is writable");
    }
    if leaf.executable() && !is_text(address) {
        return Some("executable outside of text");
    }
    if !is_in_area(address) {
        return Some("outside of every area");
    }
    let key = leaf.key();
    if key == Pkey::OPEN && leaf.is_keyed() {
        return Some("under key 0");
    }
    if (DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_BYTES).contains(&address) && key != Pkey::KERNEL {
        return Some("direct map without the kernel's key");
    }
    if leaf.executable() && has_writable_alias(address, leaf) {
        return Some("text has a writable alias");
    }
    if address >= KERNEL_TABLES && key != Pkey::KERNEL && leaf.is_keyed() {
        return Some("kernel page without the kernel's key");
    }
    None
}

/// The kernel's text and the slots, in which images lie.
fn is_text(address: u64) -> bool {
    bringup::kernel_text().contains(&address) || layout::slot_of(address).is_some()
}

fn is_in_area(address: u64) -> bool {
    let within = |base: u64, bytes: u64| (base..base + bytes).contains(&address);
    address == UNKEYED_TEST_PAGE
        || within(DIRECT_MAP, DIRECT_MAP_BYTES)
        || layout::slot_of(address).is_some()
        || is_region(address)
        || within(KERNEL_TABLES, KERNEL_TABLES_BYTES)
        || within(DEVICES, TOP_SPAN)
        || address >= layout::KERNEL_BASE
}

fn has_writable_alias(address: u64, leaf: Leaf) -> bool {
    let pages = 1u64 << (9 * (u64::from(leaf.level) - 1));
    (0..pages).any(|page| {
        let frame = leaf.frame(address + page * PAGE);
        super::with(|memory| memory.tables.walk(DIRECT_MAP + frame)).is_some_and(|alias| alias.writable())
    })
}

/// The IDT, and in the window the constants, the slots and the descriptor tables.
fn is_outside_of_keys(address: u64) -> bool {
    let idt = crate::arch::idt::address();
    matches!(address, window::CONSTANTS | window::SLOTS | window::TABLES) || address == idt
}

/// What is wrong with a page of a slot or a region in the kernel's own root.
fn owner_rule(kernel: &Kernel, address: u64, key: Pkey) -> Option<&'static str> {
    if let Some(slot) = layout::slot_of(address) {
        let domain = kernel.domains.at_number(slot as u32).map(|at| &kernel.domains[at]);
        return match domain {
            None => Some("page in the slot of no domain"),
            Some(domain) if domain.key != Some(key) => Some("private page without its domain's key"),
            Some(_) => None,
        };
    }
    match is_region(address) {
        true if kernel.region_at(address).is_none() => Some("page of no region"),
        true if key != Pkey::KERNEL => Some("region's page without the kernel's key"),
        _ => None,
    }
}

/// What is wrong with a page that a view shows of a slot or a region.
fn view_rule(kernel: &Kernel, view: Ref<View>, address: u64, key: Pkey) -> Option<&'static str> {
    if let Some(slot) = layout::slot_of(address) {
        let domain = kernel.domains.at_number(slot as u32).map(|at| &kernel.domains[at]);
        let own = domain.is_some_and(|domain| domain.view == Some(view));
        return if own { owner_rule(kernel, address, key) } else { Some("slot of another view's domain") };
    }
    let facet = kernel.region_at(address).and_then(|region| kernel.facet_in(region, view));
    match facet {
        None => Some("page of a region that no domain of the view holds"),
        Some(at) if kernel.facets[at].key != key => Some("region's page without its class's key"),
        Some(_) => None,
    }
}
