//! The record of a trap: the registers of what was interrupted. Entry code and Rust share this one layout.

/// What an entry saves and an exit restores. A record of a domain is an allegation: whatever of it could have been
/// forged (all of it) is worth no more than the domain's own word.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbx: u64,
    pub(crate) rbp: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    pub(crate) r10: u64,
    pub(crate) r11: u64,
    pub(crate) r12: u64,
    pub(crate) r13: u64,
    pub(crate) r14: u64,
    pub(crate) r15: u64,
    /// Error code, or [`NO_ERROR_CODE`].
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
    /// PKRS as the CPU had it at entry. Evidence for a report; never restored.
    pub(crate) pkrs: u64,
    /// Vector of the trap, or one of the gates below.
    pub(crate) vector: u64,
    /// Which slot the trap came through.
    pub(crate) level: u64,
}

/// The scrub value where an error code would be: the trap pushed none.
pub(crate) const NO_ERROR_CODE: u64 = 0x7fff_ffff;

/// [`Record::vector`] of an entry through the call gate.
pub(crate) const VECTOR_CALL: u64 = 0x100;
/// [`Record::vector`] of an entry through the reply gate.
pub(crate) const VECTOR_REPLY: u64 = 0x101;
/// [`Record::vector`] of an entry through the system call gate.
pub(crate) const VECTOR_SYSCALL: u64 = 0x102;

/// [`Record::vector`] when a check of the entry code failed. Nothing else of the record is new then.
pub(crate) const VECTOR_BAD: u64 = 0x103;

/// Flags with which a domain starts: interrupts on, nothing else.
pub(crate) const RFLAGS_START: u64 = 0x202;

impl Record {
    /// A message's words, in the order of the ABI (`libpks::abi::message`).
    pub(crate) fn words(&self) -> [u64; 8] {
        [self.rdi, self.rsi, self.r8, self.r9, self.r10, self.r12, self.r13, self.r14]
    }

    /// Puts a message's words where the ABI wants them.
    pub(crate) fn set_words(&mut self, words: [u64; 8]) {
        [self.rdi, self.rsi, self.r8, self.r9, self.r10, self.r12, self.r13, self.r14] = words;
    }
}
