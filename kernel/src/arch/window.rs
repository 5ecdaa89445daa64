//! The CPU window: the last GiB of the address space, mapped differently on every CPU.
//!
//! Entry code reaches it by sign-extended absolute displacement, so it needs no register and trusts none. Because
//! only this CPU maps these frames here, no other CPU can forge a trap frame while this one is using it.
//!
//! What the CPU itself must reach lies in pages with U/S set, which PKRS does not cover: whatever word a trap
//! interrupts, its frame can be pushed.
//!
//! | page | rights, key | content |
//! |---|---|---|
//! | 0 | read-only, none | [`Constants`]: what exits compare with |
//! | 1 | read-write, 1 | [`PerCpu`]: depth, records |
//! | 2 | read-write, 1 | page 0 again, for the kernel to write |
//! | 3 | read-write, none | the trap slots: the only pages that every domain can write |
//! | 4 | read-only, none | GDT and TSS |
//! | 5 | read-only, 1 | the vault: text of SelfTest and of MOV CR3, executable only while an operation of it runs on this CPU |
//! | 0x10.. | read-write, 1 | stacks, a guard page below each |

use super::protection;
use super::record::Record;
use core::mem::offset_of;
use libpks::pkey::Pkrs;

/// First address of the window.
pub(crate) const BASE: u64 = 0xffff_ffff_c000_0000;

/// Address of [`Constants`] as every domain may read it.
pub(crate) const CONSTANTS: u64 = BASE;
/// Address of [`PerCpu`].
pub(crate) const PER_CPU: u64 = BASE + 0x1000;
/// Address of [`Constants`] as the kernel writes it.
pub(crate) const CONSTANTS_ALIAS: u64 = BASE + 0x2000;
/// The page of trap slots.
pub(crate) const SLOTS: u64 = BASE + 0x3000;
/// The page of GDT and TSS.
pub(crate) const TABLES: u64 = BASE + 0x4000;

/// The vault: the only place where instructions can be executed that write PKRS or CR0 without a check.
pub(crate) const VAULT: u64 = BASE + 0x5000;

/// Bytes of a trap slot. Slot `n` ends at [`slot_top`]`(n)`, which is what the TSS holds as stack `n`.
pub(crate) const SLOT_BYTES: u64 = 0x200;

/// Pages of each stack, lowest first, and where it ends.
pub(crate) struct Stack {
    /// Address of the first mapped page.
    pub(crate) bottom: u64,
    /// The stack pointer at the start.
    pub(crate) top: u64,
}

/// The stack of the event kernel.
pub(crate) const KERNEL_STACK: Stack = Stack { bottom: BASE + 0x1_0000, top: BASE + 0x2_0000 };
/// The stack of the NMI handler.
pub(crate) const NMI_STACK: Stack = Stack { bottom: BASE + 0x2_4000, top: BASE + 0x2_8000 };
/// Where the stacks of traps inside the kernel begin: the one of DEPTH `n` ends `n` spans above.
pub(crate) const NESTED_BASE: u64 = BASE + 0x4_0000;
/// Binary logarithm of their distance, of which the lowest page is a guard page.
pub(crate) const NESTED_SHIFT: u32 = 14;
/// The deepest DEPTH that has a stack: ten traps inside the event kernel. What is deeper stops the machine, on the
/// stack of the next.
pub(crate) const DEEPEST: u32 = 11;

/// The stack of a trap that finds itself at this DEPTH (2 or more).
pub(crate) const fn nested_stack(depth: u32) -> Stack {
    let top = NESTED_BASE + ((depth as u64) << NESTED_SHIFT);
    Stack { bottom: top - (1 << NESTED_SHIFT) + 0x1000, top }
}

/// All stacks of a CPU.
pub(crate) fn stacks() -> impl Iterator<Item = Stack> {
    [KERNEL_STACK, NMI_STACK].into_iter().chain((2..=DEEPEST + 1).map(nested_stack))
}

/// Which stack has its guard page at an address.
pub(crate) fn stack_guarded_at(address: u64) -> Option<&'static str> {
    let is_below = |stack: &Stack| (stack.bottom - 0x1000..stack.bottom).contains(&address);
    match () {
        () if is_below(&KERNEL_STACK) => Some("event kernel's"),
        () if is_below(&NMI_STACK) => Some("NMI handler's"),
        () if stacks().any(|stack| is_below(&stack)) => Some("nested trap's"),
        () => None,
    }
}

/// Where slot `n` (1 to 6, the IST index) ends.
pub(crate) const fn slot_top(n: u64) -> u64 {
    SLOTS + n * SLOT_BYTES
}

/// Where the trap that came through a slot last was taken, if nothing has scrubbed that since. An allegation, as all
/// that lies in slots.
pub(crate) fn interrupted_at(slot: u64) -> u64 {
    // SAFETY: the slots are mapped on this CPU, and any bytes are a word.
    unsafe { ((slot_top(slot) - 40) as *const u64).read_volatile() }
}

/// What an exit to a domain compares with, in memory that no domain can write.
#[repr(C)]
pub(crate) struct Constants {
    /// Reserved for the connection table of bound calls.
    pub(crate) connections: u64,
    /// CELL: what exits write for the domain that runs on this CPU: its rights word, or the root for that.
    pub(crate) cell: u64,
    /// TOPP: address of the word that must still read `top_value` after an exit's write of PKRS.
    pub(crate) top_pointer: u64,
    /// TOPV. Without bound calls a constant, never 0.
    pub(crate) top_value: u64,
    /// Number of this CPU.
    pub(crate) cpu: u64,
    /// What entries write for the kernel: its rights word, or the root on which it runs.
    pub(crate) kernel: u64,
    /// The rights word of the domain that runs on this CPU, where CELL holds a root.
    pub(crate) word: u64,
}

/// What TOPV holds while there are no bound calls.
pub(crate) const TOP_VALUE: u64 = 0x706f_7274_6375_6c6c;

/// What the entry code keeps for this CPU.
#[repr(C)]
pub(crate) struct PerCpu {
    /// 0: a domain runs. 1: the event kernel. More: a trap inside it.
    pub(crate) depth: u32,
    /// Not 0 while an NMI is being handled.
    pub(crate) nmi_busy: u32,
    /// Set when an NMI met a handler that had been entered without one; cleared when a handler starts.
    pub(crate) nmi_forged: u32,
    /// What [`crate::trap::kernel_nmi`] gave.
    pub(crate) nmi_mode: u32,
    /// Record of the event.
    pub(crate) record: Record,
    /// Record of an NMI.
    pub(crate) nmi_record: Record,
    /// Address of this CPU's [`crate::ipc::passage::Passage`].
    pub(crate) passage: u64,
}

/// Address of a field of [`PerCpu`].
pub(crate) const DEPTH: u64 = PER_CPU + offset_of!(PerCpu, depth) as u64;
/// See [`PerCpu::nmi_busy`].
pub(crate) const NMI_BUSY: u64 = PER_CPU + offset_of!(PerCpu, nmi_busy) as u64;
/// See [`PerCpu::nmi_forged`].
pub(crate) const NMI_FORGED: u64 = PER_CPU + offset_of!(PerCpu, nmi_forged) as u64;
/// See [`PerCpu::nmi_mode`].
pub(crate) const NMI_MODE: u64 = PER_CPU + offset_of!(PerCpu, nmi_mode) as u64;
/// See [`PerCpu::record`].
pub(crate) const RECORD: u64 = PER_CPU + offset_of!(PerCpu, record) as u64;
/// See [`PerCpu::nmi_record`].
pub(crate) const NMI_RECORD: u64 = PER_CPU + offset_of!(PerCpu, nmi_record) as u64;
/// See [`PerCpu::passage`].
pub(crate) const PASSAGE: u64 = PER_CPU + offset_of!(PerCpu, passage) as u64;
/// Address of CELL, for the kernel to write.
pub(crate) const CELL_ALIAS: u64 = CONSTANTS_ALIAS + offset_of!(Constants, cell) as u64;
/// Address of CELL, for exits.
pub(crate) const CELL: u64 = CONSTANTS + offset_of!(Constants, cell) as u64;
/// Address of [`Constants::kernel`].
pub(crate) const KERNEL: u64 = CONSTANTS + offset_of!(Constants, kernel) as u64;
/// Address of TOPP.
pub(crate) const TOP_POINTER: u64 = CONSTANTS + offset_of!(Constants, top_pointer) as u64;
/// Address of TOPV.
pub(crate) const TOP_VALUE_AT: u64 = CONSTANTS + offset_of!(Constants, top_value) as u64;

const _: () = assert!(size_of::<PerCpu>() <= 4096 && size_of::<Constants>() <= 4096);

/// The words of [`Constants`] of a CPU before it runs a domain: every key closed but 0. `kernel` is what entries write.
pub(crate) fn initial_constants(cpu: u64, kernel: u64) -> [u64; 7] {
    let word = u64::from(Pkrs::DEFAULT.raw());
    [0, word, TOP_VALUE_AT, TOP_VALUE, cpu, kernel, word]
}

const _: () = assert!(size_of::<Constants>() == 56);

/// The number of the CPU that this runs on.
pub(crate) fn cpu() -> usize {
    // SAFETY: every CPU maps its constants at this address before it runs any code that asks, and the field is
    // written once, before that.
    unsafe { (*(CONSTANTS as *const Constants)).cpu as usize }
}

/// Says under which rights word the next exit on this CPU leaves the kernel, and what it writes for that.
pub(crate) fn set_cell(word: Pkrs, written: u64) {
    let constants = CONSTANTS_ALIAS as *mut Constants;
    // SAFETY: the alias is mapped read-write under the kernel's key on this CPU alone; interrupts are off in the
    // kernel, and an NMI only reads the fields.
    unsafe {
        (&raw mut (*constants).cell).write_volatile(written);
        (&raw mut (*constants).word).write_volatile(u64::from(word.raw()));
    }
}

/// Says on which root the kernel runs on this CPU from now on, where each rights word has one.
pub(crate) fn set_kernel_root(root: u64) {
    let constants = CONSTANTS_ALIAS as *mut Constants;
    // SAFETY: as in `set_cell`.
    unsafe { (&raw mut (*constants).kernel).write_volatile(root) };
}

/// The constants of this CPU as they are now.
fn constants() -> Constants {
    // SAFETY: as in `set_cell`; the read-only mapping of the same page, and any bytes are such constants.
    unsafe { (CONSTANTS as *const Constants).read_volatile() }
}

/// The word that exits on this CPU leave the kernel under: with keys what CELL holds, which the entry code sets as well.
pub(crate) fn cell() -> Pkrs {
    let Constants { cell, word, .. } = constants();
    Pkrs::from_raw(if protection::in_force().has_roots() { word } else { cell } as u32)
}

/// As much of what the last [`set_cell`] has exits write as a record holds.
pub(crate) fn written() -> u64 {
    constants().cell & 0xffff_ffff
}

/// The word for which this CPU has a root in force, if that is the kernel's or the current domain's; else one that closes
/// all. Of the root only what a record holds is looked at.
pub(crate) fn word_of(root: u64) -> Pkrs {
    let Constants { cell, kernel, word, .. } = constants();
    match root as u32 {
        root if root == kernel as u32 => Pkrs::KERNEL,
        root if root == cell as u32 => Pkrs::from_raw(word as u32),
        _ => Pkrs::from_raw(!0),
    }
}

/// Says where this CPU's passage is, before it runs a domain.
pub(crate) fn set_passage(address: u64) {
    // SAFETY: mapped on this CPU alone; the entry code reads it only when it comes from a domain.
    unsafe { (&raw mut (*(PER_CPU as *mut PerCpu)).passage).write_volatile(address) };
}

/// How deep in traps this CPU is (see [`PerCpu::depth`]).
pub(crate) fn depth() -> u32 {
    // SAFETY: mapped on this CPU alone; a trap that nests leaves it as it found it.
    unsafe { (&raw const (*(PER_CPU as *const PerCpu)).depth).read_volatile() }
}

/// Leaves nothing of an interrupted domain in the slot of the NMI, which a handler in place left through: the next
/// domain could read it. The other slots are scrubbed when their content is taken.
pub(crate) fn scrub_nmi_slot() {
    for offset in [16, 24, 40] {
        let word = (slot_top(1) - offset) as *mut u64;
        // SAFETY: the slots are mapped on this CPU alone, and nothing that lies there is believed.
        unsafe { word.write_volatile(0) };
    }
}
