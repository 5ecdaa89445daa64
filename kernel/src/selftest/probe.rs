//! One access under a rights word of the caller's choice.

use super::{MENDED, Outcome, retry_over_nmis, word_from};
use crate::arch::protection::{self, IA32_PKRS, pkrs_number, pkrs_write};
use crate::arch::window;
use crate::mem::vault;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use core::arch::naked_asm;
use libpks::abi::Error;

/// What is different while the access is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Circumstances {
    /// Nothing.
    Usual = 0,
    /// CR0.WP is clear.
    WithoutWriteProtect = 1,
    /// The bit of CR4 that switches the keys on is clear: its number is the value that the routine gets.
    WithoutKeys = 2,
}

impl Circumstances {
    /// As [`probe_access`] takes it.
    fn code(self) -> u32 {
        match self {
            Circumstances::WithoutKeys => protection::in_force().control_bit().bits().trailing_zeros(),
            other => other as u32,
        }
    }
}

/// One access under a rights word, and back under the kernel's. RDI the address, RSI what is written for the word, EDX 0 to read and 1 to
/// write, RCX the value, R8 where the value read goes, R9D the code of the [`Circumstances`].
///
/// # Safety
/// Interrupts are off; the address may be anything, because a fault is mended.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn probe_access(
    address: u64,
    word: u64,
    write: u32,
    value: u64,
    read: *mut u64,
    circumstances: u32,
) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "mov rbx, rcx",          // the value
        "mov r11d, edx",         // read or write
        "mov r10, cr0",
        "mov rbp, r10",
        "mov r12, cr4",
        "cmp r9d, 1",
        "jne 2f",
        "btr r10, 16",           // WP
        "mov cr0, r10",
        "2:",
        "mov rax, rsi",
        pkrs_number!("mov ecx, {pkrs}"),
        "xor edx, edx",
        write_pkrs!(),
        "cmp r9d, 2",
        "jb 7f",
        "mov r10, r12",
        "btr r10, r9",           // what the TLB has of the page was made with it
        "mov cr4, r10",
        "invlpg [rdi]",
        "7:",
        "test r11d, r11d",
        "jnz 3f",
        "4:",
        "mov rbx, [rdi]",
        "jmp 5f",
        "3:",
        "6:",
        "mov [rdi], rbx",
        "5:",
        "cmp r9d, 2",
        "jb 8f",
        "mov cr4, r12",
        "invlpg [rdi]",
        "8:",
        "mov rax, [{kernel}]",
        pkrs_number!("mov ecx, {pkrs}"),
        "xor edx, edx",
        write_pkrs!(),
        "mov cr0, rbp",
        "mov [r8], rbx",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        // A fault at either access continues at 5, after `mend` has noted it.
        ".pushsection .fixups,\"a\"",
        ".quad 4b, 5b",
        ".quad 6b, 5b",
        ".popsection",
        pkrs = const IA32_PKRS,
        kernel = const window::KERNEL as i64,
    )
}

type ProbeAccess = unsafe extern "C" fn(u64, u64, u32, u64, *mut u64, u32);

/// Makes the access, under what is written for a rights word.
pub(super) fn access(
    address: u64,
    written: u64,
    access: u32,
    value: u64,
    circumstances: Circumstances,
) -> Outcome {
    retry_over_nmis(|| {
        let mut read = 0;
        // SAFETY: interrupts are off in the kernel; whatever the address is, its fault is mended. What a write
        // changes is the test's affair: the capability is there for that.
        vault::run(probe_access as ProbeAccess, |probe| unsafe {
            probe(address, written, access, value, &raw mut read, circumstances.code());
        });
        Outcome { value: read, ..*MENDED.lock() }
    })
}

impl Kernel {
    pub(super) fn probe(
        &mut self,
        thread: Ref<Thread>,
        [address, word, access_word, value, ..]: [u64; 6],
        circumstances: Circumstances,
    ) -> Result<[u64; 8], Error> {
        if circumstances == Circumstances::WithoutKeys {
            self.need_keys()?;
        }
        if access_word > 1 {
            return Err(Error::InvalidArgument);
        }
        let word = word_from(word)?;
        let outcome = self.under(thread, word, |written| {
            access(address, written, access_word as u32, value, circumstances)
        })?;
        let Outcome { value, faulted, error, cr2, .. } = outcome;
        Ok([faulted, error, cr2, value, 0, 0, 0, 0])
    }
}
