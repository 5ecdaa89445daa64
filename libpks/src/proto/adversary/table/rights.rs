//! Rights that were taken back, keys and memory that were somebody else's.

use super::{Crime, crimes};
use crate::abi::Error;
use crate::abi::fault::FaultKind;

crimes! {
    "read_after_revoke": "go on reading a region that is revoked, from a thread that does not enter the kernel",
        RevokedRegion => EndsThere(FaultKind::ProtectionKey), Binary [StaleRights],
        "revoke interrupts the CPU and edits every word before it returns";
    "read_after_revoke_elsewhere": "the same from a thread that moves from CPU to CPU",
        RevokedRegion => EndsThere(FaultKind::ProtectionKey), Binary [StaleRights],
        "the word is the thread's, wherever it is";
    "write_after_revoke": "go on writing it",
        RevokedRegion => EndsThere(FaultKind::ProtectionKey), Binary [StaleRights],
        "the same";
    "read_after_loan": "go on reading a region that was lent",
        LentRegion => EndsThere(FaultKind::ProtectionKey), Binary [StaleRights],
        "a loan ends with the call, on every CPU";
    "global_after_revoke": "open a region for all its threads, and read it from one that was asleep when it was revoked",
        RevokedRegion => EndsThere(FaultKind::ProtectionKey), Binary [StaleRights],
        "words of threads that wait are edited too";
    "close_what_is_not_its_own": "end openings whose numbers it makes up",
        Nothing => Refused(Error::NoSuchCapability), Binary [StaleRights Handles],
        "an opening belongs to a thread";
    "use_memory_after_free": "delete a region and read where it was",
        Nothing => Ends(FaultKind::NotMapped), Binary [Reuse],
        "it is unmapped on every CPU before its frames are free";
    "fresh_regions": "look for what others left in memory that it is given as regions",
        Nothing => Harmless, Binary [Leftovers],
        "frames are zeroed when they are handed out";
    "fresh_heap": "look for it in a heap that grows",
        Nothing => Harmless, Binary [Leftovers],
        "the same";
    "fresh_stacks": "look for it in stacks and IPC buffers of new threads",
        Nothing => Harmless, Binary [Leftovers],
        "the same";
    "trap_slots": "look for what interrupts of others left in the trap slots",
        Nothing => Harmless, Binary [Leftovers TrapFrame],
        "a slot is scrubbed when its content is taken",
        left "what domains write there themselves stays for who comes next: a channel for two that work together";
    "registers_after_call": "look for what a server left in the registers",
        Nothing => Harmless, Binary [Leftovers],
        "all that carries no payload is cleared";
    "long_buffer": "look for what a server's longer answer left in its IPC buffer",
        Nothing => Harmless, Binary [Leftovers Messages],
        "only the bytes that a message says are copied";
}
