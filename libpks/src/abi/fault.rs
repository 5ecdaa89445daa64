//! The report of a fault: what happened, who did it, what it meant to touch, and who owns that.

use super::Name;
use serde::{Deserialize, Serialize};

/// What kind of fault it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FaultKind {
    /// A protection key forbade the access (#PF with error code bit 5; Intel SDM vol. 3A, 5.12.3).
    ProtectionKey,
    /// The page is mapped, but not for this kind of access.
    Protection,
    /// Nothing is mapped there.
    NotMapped,
    /// Something is there, but the domain's view does not show it: none of the view's domains may reach it (#PF with
    /// error code bit 0 clear; Intel SDM vol. 3A, 4.7).
    OtherView,
    /// The stack ran into its guard page.
    StackOverflow,
    /// An exception that is no page fault; the number is its vector.
    Exception(u8),
    /// The server panicked; the message says why.
    Panic,
    /// The domain entered kernel text in a way that no honest domain does.
    GateAbuse,
    /// A call that the domain served went on for longer than its client's budget and its own overrun budget; the
    /// message says by how much, and for whom.
    Hung,
}

/// What kind of access it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FaultAccess {
    /// A data read.
    Read,
    /// A data write.
    Write,
    /// An instruction fetch.
    Execute,
    /// No memory access.
    None,
}

/// One step of a backtrace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BacktraceStep {
    /// Instruction or return address.
    pub address: u64,
    /// Function, demangled and cut to 64 bytes, if the image tells; with the offset in it.
    pub symbol: Option<(heapless::String<64>, u32)>,
}

/// A fault in full. Addresses and values are those of the interrupted thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FaultReport {
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// The domain that is blamed: its number.
    pub domain: u32,
    /// Its name.
    pub domain_name: Name,
    /// The thread: its number.
    pub thread: u32,
    /// The CPU it ran on.
    pub cpu: u32,
    /// What happened.
    pub kind: FaultKind,
    /// How it meant to access memory.
    pub access: FaultAccess,
    /// The address that was accessed (CR2), or 0.
    pub address: u64,
    /// The error code that the CPU pushed, or 0.
    pub error_code: u32,
    /// The key of the page that was accessed, from a walk of the page table, if it is mapped.
    pub key: Option<u8>,
    /// Who owns that page, if anyone.
    pub owner: Option<Name>,
    /// PKRS of the interrupted thread as the kernel's books have it.
    pub pkrs: u32,
    /// PKRS as the CPU had it (evidence only).
    pub pkrs_live: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Flags.
    pub rflags: u64,
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15.
    pub registers: [u64; 15],
    /// Where it was, innermost first.
    pub backtrace: heapless::Vec<BacktraceStep, 12>,
    /// What a panic said.
    pub message: heapless::String<256>,
}
