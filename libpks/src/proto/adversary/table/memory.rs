//! Reads, writes and jumps to memory that is not the adversary's.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;
use crate::abi::inspect::PlaceKind;
use crate::abi::layout::KERNEL_BASE;

crimes! {
    "read_foreign_memory": "read a variable of the domain that asks",
        Caller => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "the key of the other's pages is closed in the adversary's word";
    "write_foreign_memory": "write a variable of the domain that asks",
        Caller => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "the same";
    "read_every_domain": "read stack, IPC buffer and heap of every other domain, one after the other",
        EveryDomain => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "each has a key of its own";
    "write_every_domain": "write there",
        EveryDomain => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "each has a key of its own";
    "execute_every_domain": "jump there",
        EveryDomain => EndsThere(FaultKind::Protection), Binary [Wall SharedText],
        "data cannot be executed";
    "write_every_text": "write the first instruction of every other domain",
        EveryText => EndsThere(FaultKind::ProtectionKey), Binary [Wall SharedText],
        "text carries its domain's key, and is read-only besides";
    "run_every_text": "jump to the first instruction of every other domain",
        EveryText => EndsSomehow, Binary [SharedText],
        "what the other's code touches is under a key that is closed to who runs it; one that comes back has got nothing",
        left "it may execute there what its own text could hold as well";
    "overrun": "write on and on from a buffer of its own upwards",
        Nothing => Ends(FaultKind::NotMapped), Binary [Wall],
        "a heap ends before anything of others begins";
    "read_kernel_memory": "read the kernel's data",
        Place("kernel variable") => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "the kernel's key is closed in every domain's word";
    "write_kernel_memory": "write the kernel's data",
        Place("kernel variable") => EndsThere(FaultKind::ProtectionKey), Binary [Wall],
        "the same";
    "read_kernel_places": "read the direct map, page tables, stacks, records, the vault, device registers, other CPUs' windows",
        Places(PlaceKind::Private) => EndsThere(FaultKind::ProtectionKey), Binary [Wall Tables TrapFrame],
        "all of it is under the kernel's key, the other mapping of a frame too";
    "write_kernel_places": "write there",
        Places(PlaceKind::Private) => EndsThere(FaultKind::ProtectionKey), Binary [Wall Tables TrapFrame],
        "the same";
    "execute_kernel_stack": "jump to a stack of the kernel",
        Place("event stack") => EndsThere(FaultKind::Protection), Binary [Tables],
        "nothing is writable and executable";
    "execute_direct_map": "jump to where the direct map shows RAM",
        Place("direct map") => EndsThere(FaultKind::Protection), Binary [Tables],
        "the direct map cannot be executed";
    "execute_vault": "jump to the WRMSR and MOV CR0 that only tests use",
        Place("vault") => EndsThere(FaultKind::Protection), Binary [SharedText EscapeBytes],
        "the vault is executable on one CPU for the length of one operation of the kernel's";
    "execute_bring_up": "jump to MOV CR3, LGDT, LTR of bring-up, and use a guard page of the kernel's",
        Places(PlaceKind::Gone) => EndsThere(FaultKind::NotMapped), Binary [SharedText EscapeBytes],
        "the text of bring-up is unmapped once all CPUs are up";
    "write_own_text": "write an instruction of its own",
        Nothing => Ends(FaultKind::Protection), Binary [Tables],
        "text is read-only, also for ring 0 (CR0.WP)";
    "read_kernel_text": "read an instruction of a gate",
        Numbers(&[KERNEL_BASE]) => EndsThere(FaultKind::ProtectionKey), Binary [SharedText],
        "the kernel's text is under its key; only fetches get through";
    "write_kernel_text": "write an instruction of a gate",
        Numbers(&[KERNEL_BASE]) => EndsThere(FaultKind::ProtectionKey), Binary [SharedText],
        "the same";
    "write_open_constants": "write IDT, GDT, TSS, and the word that the way out compares with",
        Places(PlaceKind::Constant) => EndsThere(FaultKind::Protection), Binary [Tables],
        "they are mapped read-only; the kernel writes the word through another mapping";
    "execute_open_constants": "jump into IDT, GDT and TSS",
        Places(PlaceKind::Constant) => EndsThere(FaultKind::Protection), Binary [Tables],
        "they cannot be executed";
    "execute_trap_slot": "write code into a trap slot and jump there",
        Places(PlaceKind::Slot) => Ends(FaultKind::Protection), Binary [TrapFrame],
        "trap slots cannot be executed";
    "execute_data": "jump to a buffer of its own",
        Nothing => Ends(FaultKind::Protection), Binary [EscapeBytes],
        "what the loader has not looked through cannot be executed";
    "execute_stack": "jump to its stack",
        Nothing => Ends(FaultKind::Protection), Binary [EscapeBytes],
        "the same";
    "null_read": "read address 8",
        Nothing => Ends(FaultKind::NotMapped), Binary [Wall],
        "nothing is mapped in the lower half";
    "null_write": "write address 8",
        Nothing => Ends(FaultKind::NotMapped), Binary [Wall],
        "the same";
    "null_call": "jump to address 8",
        Nothing => Ends(FaultKind::NotMapped), Binary [Wall],
        "the same";
    "non_canonical": "read a non-canonical address",
        Nothing => Ends(FaultKind::Exception(13)), Binary [Wall],
        "#GP, for which the domain answers";
}
