//! One entry into the kernel with all registers, the flags and the stack pointer as drawn.

use core::arch::naked_asm;
use core::mem::offset_of;

use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, IPC_BUFFER_BYTES, ipc_buffer_of};

/// Words that the landing needs below the stack pointer: flags, target, return address, the stack to come back to.
const LANDING_WORDS: usize = 4;

/// Where a call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The gate for calls.
    Call,
    /// The gate for replies.
    Reply,
    /// The gate for the kernel's operations.
    Operation,
    /// INT with this vector.
    Interrupt(u8),
}

impl Entry {
    fn address(self) -> u64 {
        match self {
            Self::Call => GATE_CALL,
            Self::Reply => GATE_REPLY,
            Self::Operation => GATE_SYSCALL,
            Self::Interrupt(vector) => {
                interrupts as unsafe extern "C" fn() as usize as u64 + 1 + 5 * u64::from(vector)
            }
        }
    }
}

/// Registers in the order in which they are loaded; afterwards what came back.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
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
    flags: u64,
    target: u64,
    /// The end of the stack on which the kernel is entered; 0 for the thread's own.
    stack: u64,
}

impl Registers {
    /// The words of a message, in the ABI's order.
    pub(crate) fn set_words(&mut self, words: [u64; 8]) {
        [self.rdi, self.rsi, self.r8, self.r9, self.r10, self.r12, self.r13, self.r14] = words;
    }

    /// The first word that came back.
    pub(crate) const fn first_words(&self) -> [u64; 2] {
        [self.rdi, self.rsi]
    }
}

/// Memory for a stack pointer.
pub(crate) type Elsewhere = [u64; 2 * LANDING_WORDS];

/// Enters the kernel. What comes back is in the registers.
pub(crate) fn enter(registers: &mut Registers, entry: Entry, flags: u64, elsewhere: Option<&mut Elsewhere>) {
    registers.target = entry.address();
    registers.flags = flags;
    // Where it begins is not promised to be aligned otherwise than to a word; the kernel must not care.
    registers.stack = elsewhere.map_or(0, |memory| memory.as_mut_ptr_range().end.expose_provenance() as u64);
    // SAFETY: `pass` keeps what Rust wants kept and touches the registers, this stack below its pointer, and the memory
    // that was lent for a stack. What the kernel is asked to do may end this domain, or unmap or change memory of it
    // by its own operations: no reference of this crate reaches regions, the IPC buffer or the stacks of other
    // contexts, which is all that an operation changes.
    unsafe { pass(registers) };
}

/// Puts bytes at the start of this context's IPC buffer.
pub(crate) fn fill_buffer(bytes: &[u8]) {
    let here = 0_u8;
    let buffer = ipc_buffer_of((&raw const here).expose_provenance() as u64);
    let length = bytes.len().min(IPC_BUFFER_BYTES);
    // SAFETY: this runs on the stack of a context, so that is where its IPC buffer is: mapped, writable, a page long,
    // and never referred to.
    unsafe {
        core::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            core::ptr::with_exposed_provenance_mut(buffer as usize),
            length,
        );
    }
}

/// INT 0, INT 1 and so on, each hidden in a MOV EAX with CD, the vector and RET in its immediate: the image builder takes
/// no text with an open INT, and a hostile server would not show one either.
///
/// # Safety
/// Only to be entered at the second of each five bytes, with a return address on the stack.
#[unsafe(naked)]
unsafe extern "C" fn interrupts() {
    naked_asm!(
        ".set vector, 0",
        ".rept 256",
        ".byte 0xb8, 0xcd, vector, 0xc3, 0x90",
        ".set vector, vector + 1",
        ".endr",
        "ret"
    )
}

/// POPFQ and RET, hidden in the same way.
///
/// # Safety
/// Only to be entered at its second byte, with flags and a return address on the stack.
#[unsafe(naked)]
unsafe extern "C" fn set_flags() {
    naked_asm!(".byte 0xb8, 0x9d, 0xc3, 0x90, 0x90", "ret")
}

/// Loads the registers, enters the kernel, and stores what came back.
///
/// On the stack for the entry lie the flags, the target, the place to come back to, and the stack of that place.
///
/// # Safety
/// As [`enter`] argues.
#[unsafe(naked)]
unsafe extern "sysv64" fn pass(registers: *mut Registers) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rax, rdi",
        "mov rcx, [rax + {stack}]",
        "test rcx, rcx",
        "cmovz rcx, rsp",
        "sub rcx, 32",
        "mov rdx, [rax + {flags}]",
        "mov [rcx], rdx",
        "mov rdx, [rax + {target}]",
        "mov [rcx + 8], rdx",
        "lea rdx, [rip + 2f]",
        "mov [rcx + 16], rdx",
        "mov [rcx + 24], rsp",
        "mov rsp, rcx",
        "mov rbx, [rax + 8]",
        "mov rcx, [rax + 16]",
        "mov rdx, [rax + 24]",
        "mov rbp, [rax + 32]",
        "mov rsi, [rax + 40]",
        "mov rdi, [rax + 48]",
        "mov r8, [rax + 56]",
        "mov r9, [rax + 64]",
        "mov r10, [rax + 72]",
        "mov r11, [rax + 80]",
        "mov r12, [rax + 88]",
        "mov r13, [rax + 96]",
        "mov r14, [rax + 104]",
        "mov r15, [rax + 112]",
        "mov rax, [rax]",
        "jmp {set_flags} + 1",
        "2:",
        "mov rsp, [rsp]",
        "xchg rdi, [rsp]",
        "mov [rdi], rax",
        "mov [rdi + 8], rbx",
        "mov [rdi + 16], rcx",
        "mov [rdi + 24], rdx",
        "mov [rdi + 32], rbp",
        "mov [rdi + 40], rsi",
        "mov [rdi + 56], r8",
        "mov [rdi + 64], r9",
        "mov [rdi + 72], r10",
        "mov [rdi + 80], r11",
        "mov [rdi + 88], r12",
        "mov [rdi + 96], r13",
        "mov [rdi + 104], r14",
        "mov [rdi + 112], r15",
        "pop rax",
        "mov [rdi + 48], rax",
        "lea rax, [rip + 3f]",
        "push rax",
        "push 0x202",
        "jmp {set_flags} + 1",
        "3:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        set_flags = sym set_flags,
        flags = const offset_of!(Registers, flags),
        target = const offset_of!(Registers, target),
        stack = const offset_of!(Registers, stack),
    )
}

const _: () = assert!(offset_of!(Registers, r15) == 112 && offset_of!(Registers, rdi) == 48);

/// Where a thread begins that a random operation makes: its argument may be anything.
pub(crate) fn thread_entry() -> u64 {
    begin_thread as unsafe extern "sysv64" fn() -> ! as usize as u64
}

/// Where an endpoint is entered that a random operation serves.
pub(crate) fn server_entry() -> u64 {
    begin_activation as unsafe extern "sysv64" fn() -> ! as usize as u64
}

/// # Safety
/// Only the kernel enters here, with RSP at the end of a context's stack.
#[unsafe(naked)]
unsafe extern "sysv64" fn begin_thread() -> ! {
    naked_asm!("xor ebp, ebp", "cld", "call {run}", "ud2", run = sym super::run_thread)
}

/// # Safety
/// As [`begin_thread`].
#[unsafe(naked)]
unsafe extern "sysv64" fn begin_activation() -> ! {
    naked_asm!("xor ebp, ebp", "cld", "call {run}", "ud2", run = sym super::run_activation)
}
