//! What `entry.s` needs to know to bring a CPU to the state that the protocol describes.
//!
//! That state is Limine's to the bit: CR0 80010011h, CR4 20h or 1020h, EFER D00h, PAT
//! 105_00070406h, the same seven descriptors and selectors, no IDT, no LDT, no task, nothing set up
//! for SSE. More would hide what a kernel forgets to do itself. Seen from a kernel that prints it
//! all, on the bootstrap processor and the others, Limine 8.2 differs only in RFLAGS' arithmetic
//! flags, which are undefined, and 0 here.

use direct::paging::{Levels, PagingFeatures};

const CR4_PAE: u32 = 1 << 5;
const CR4_LA57: u32 = 1 << 12;
const EFER_LME: u32 = 1 << 8;
const EFER_NXE: u32 = 1 << 11;
const GDT_LIMIT: u16 = 7 * 8 - 1;

unsafe extern "C" {
    static boot_gdt: u8;
    fn leave_for_kernel() -> !;
}

/// The layout is known to `entry.s`.
#[repr(C)]
struct Handoff {
    cr3: u32,
    cr4: u32,
    efer: u32,
    unused: u32,
    direct_map: u64,
    entry: u64,
    stack_top: u64,
    gdt: GdtPointer,
}

/// The operand of LGDT in 64-bit mode.
#[repr(C, packed)]
struct GdtPointer {
    limit: u16,
    base: u64,
}

#[unsafe(no_mangle)]
static mut HANDOFF: Handoff = Handoff {
    cr3: 0,
    cr4: 0,
    efer: 0,
    unused: 0,
    direct_map: 0,
    entry: 0,
    stack_top: 0,
    gdt: GdtPointer { limit: GDT_LIMIT, base: 0 },
};

/// A promise that [`HANDOFF`] is filled in: other CPUs can be started, and the kernel entered.
pub(crate) struct Prepared(());

/// Where the bootstrap processor goes.
pub(crate) struct Destination {
    /// The kernel's entry point.
    pub(crate) entry: u64,
    /// The virtual address of its stack's end.
    pub(crate) stack_top: u64,
}

/// Fills in what every CPU needs. `root` is the physical address of page tables with `levels` whose
/// direct map holds the loader's image and whose first entry maps it where it is.
///
/// # Panics
/// If `root` is not below 4 GiB, where every allocation is.
pub(crate) fn prepare(root: u64, levels: Levels, features: PagingFeatures, to: &Destination) -> Prepared {
    let direct_map = levels.higher_half();
    let handoff = Handoff {
        cr3: u32::try_from(root).expect("page tables lie below 4 GiB"),
        cr4: CR4_PAE | if levels == Levels::Five { CR4_LA57 } else { 0 },
        efer: EFER_LME | if features.no_execute { EFER_NXE } else { 0 },
        unused: 0,
        direct_map,
        entry: to.entry,
        stack_top: to.stack_top,
        gdt: GdtPointer { limit: GDT_LIMIT, base: direct_map + (&raw const boot_gdt) as u64 },
    };
    // SAFETY: no other CPU runs yet (they start with a `Prepared` in hand), and only `entry.s` reads
    // this, after now. Assigning makes no reference.
    unsafe { HANDOFF = handoff };
    Prepared(())
}

/// Leaves for the kernel on the bootstrap processor.
pub(crate) fn leave(_: Prepared) -> ! {
    // SAFETY: `HANDOFF` holds what `prepare` was given, and its caller vouches for: page tables that
    // map this code both here and in the direct map, an entry point in an executable segment, and a
    // stack. The loader's own state is not used again.
    unsafe { leave_for_kernel() }
}
