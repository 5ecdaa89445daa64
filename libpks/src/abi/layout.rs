//! Addresses that are the same in every root page table, with 4 and with 5 paging levels.
//!
//! Everything lies in the upper half of the 4-level canonical addresses. Each domain has an aligned slot of 1 GiB;
//! regions that domains share lie in an area of their own and have the same address for everybody.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// First address of the domain slots.
pub const SLOTS_BASE: u64 = 0xffff_c000_0000_0000;
/// Bytes of a domain's slot, and its alignment.
pub const SLOT_BYTES: u64 = 1 << 30;
/// How many slots the reserved top-level entries can hold.
pub const SLOT_COUNT: u64 = 8192;

/// Where the server's image begins in its slot. The pages below it are never mapped.
pub const IMAGE_OFFSET: u64 = 0x20_0000;
/// Bytes an image may span.
pub const IMAGE_MAX_BYTES: u64 = HEAP_OFFSET - IMAGE_OFFSET;
/// Where the heap begins in the slot.
pub const HEAP_OFFSET: u64 = 0x1000_0000;
/// Bytes that the heap may grow to.
pub const HEAP_MAX_BYTES: u64 = CONTEXTS_OFFSET - HEAP_OFFSET;
/// Where the contexts begin in the slot.
pub const CONTEXTS_OFFSET: u64 = 0x2000_0000;
/// Bytes of a context: what a thread or an activation has of its own, a stack and an IPC buffer.
///
/// Contexts are aligned to their size, so a running thread finds its IPC buffer from RSP alone
/// ([`ipc_buffer_of`]); no segment register is needed.
pub const CONTEXT_BYTES: u64 = 0x4_0000;
/// How many contexts a slot holds.
pub const CONTEXT_COUNT: u64 = (SLOT_BYTES - CONTEXTS_OFFSET) / CONTEXT_BYTES;
/// Where in a context its IPC buffer lies: the last page.
pub const IPC_BUFFER_OFFSET: u64 = CONTEXT_BYTES - PAGE;
/// Bytes of an IPC buffer.
pub const IPC_BUFFER_BYTES: usize = PAGE as usize;
/// Where in a context its stack ends (RSP at entry). An unmapped page divides it from the IPC buffer.
pub const STACK_TOP_OFFSET: u64 = CONTEXT_BYTES - 2 * PAGE;
/// The largest stack that leaves a guard page at the bottom of the context.
pub const STACK_MAX_BYTES: u64 = STACK_TOP_OFFSET - PAGE;
/// The stack of a thread that does not ask for a size.
pub const STACK_DEFAULT_BYTES: u64 = 64 * 1024;

/// First address of the area of shared regions.
pub const REGIONS_BASE: u64 = 0xffff_e000_0000_0000;
/// Bytes of that area.
pub const REGIONS_BYTES: u64 = 1 << 40;

/// Where the kernel's image begins. Its first page holds the gates.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Gate: call an endpoint.
pub const GATE_CALL: u64 = KERNEL_BASE;
/// Gate: return from an activation, which is the reply.
pub const GATE_REPLY: u64 = KERNEL_BASE + 0x80;
/// Gate: one of the kernel's own operations ([`super::Syscall`]).
pub const GATE_SYSCALL: u64 = KERNEL_BASE + 0x100;
/// Where in each gate the kernel's rights word is written. No part of the ABI: tests aim there.
pub const GATE_WRITE_OFFSET: u64 = 0x13;

/// Where the slot with this number begins, or `None` if there is none.
pub const fn slot_base(slot: u64) -> Option<u64> {
    if slot < SLOT_COUNT { Some(SLOTS_BASE + slot * SLOT_BYTES) } else { None }
}

/// Which slot an address lies in, or `None` if it lies in none.
pub const fn slot_of(address: u64) -> Option<u64> {
    if address >= SLOTS_BASE && address < SLOTS_BASE + SLOT_COUNT * SLOT_BYTES {
        Some((address - SLOTS_BASE) / SLOT_BYTES)
    } else {
        None
    }
}

/// The IPC buffer of the context whose stack holds `rsp`.
pub const fn ipc_buffer_of(rsp: u64) -> u64 {
    (rsp & !(CONTEXT_BYTES - 1)) + IPC_BUFFER_OFFSET
}

const _: () = assert!(SLOTS_BASE.is_multiple_of(1 << 39) && REGIONS_BASE.is_multiple_of(1 << 39));
const _: () = assert!(SLOTS_BASE + SLOT_COUNT * SLOT_BYTES <= REGIONS_BASE);
const _: () = assert!(CONTEXTS_OFFSET.is_multiple_of(CONTEXT_BYTES) && CONTEXT_COUNT == 2048);
