//! The three gates of the kernel, as functions.
//!
//! A gate keeps RSP and nothing else ([`crate::abi::message`]), while Rust code expects RBX, RBP and R12 to R15 to
//! survive a call. The wrapper saves them on the stack and carries all payload registers in a [`Registers`].

use super::buffer;
use crate::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL};
use crate::abi::message::{Info, WORDS};
use crate::abi::{Error, Syscall};
use core::arch::naked_asm;
use core::mem::offset_of;

/// What goes into a gate in registers, and what comes out of it.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct Registers {
    /// RDI RSI R8 R9 R10 R12 R13 R14.
    pub(super) words: [u64; WORDS],
    /// R11.
    pub(super) info: Info,
    /// R15: a handle or a number; in an activation the badge.
    pub(super) target: u64,
    /// RBX: a deadline; in an activation the cookie.
    pub(super) extra: u64,
}

const _: () = assert!(offset_of!(Registers, info) == 64 && size_of::<Registers>() == 88);

/// Keeps what Rust wants kept, and the address of the [`Registers`], which is in RDI.
macro_rules! keep {
    () => {
        concat!(
            "push rbp\n",
            "mov rbp, rsp\n",
            "push rbx\n",
            "push r12\n",
            "push r13\n",
            "push r14\n",
            "push r15\n",
            "push rdi\n",
        )
    };
}

/// The registers as a gate wants them, from the [`Registers`] at RDI; the gate's address goes from RSI into RAX.
macro_rules! load {
    () => {
        concat!(
            "mov rax, rsi\n",
            "mov rsi, [rdi + 8]\n",
            "mov r8, [rdi + 16]\n",
            "mov r9, [rdi + 24]\n",
            "mov r10, [rdi + 32]\n",
            "mov r12, [rdi + 40]\n",
            "mov r13, [rdi + 48]\n",
            "mov r14, [rdi + 56]\n",
            "mov r11, [rdi + 64]\n",
            "mov r15, [rdi + 72]\n",
            "mov rbx, [rdi + 80]\n",
            "mov rdi, [rdi]\n",
        )
    };
}

/// Gives back what was kept, but for the address, and returns.
macro_rules! give_back {
    () => {
        concat!("pop r15\n", "pop r14\n", "pop r13\n", "pop r12\n", "pop rbx\n", "pop rbp\n", "ret\n",)
    };
}

/// Goes through the gate at `gate` with `registers`, which then hold what came back.
///
/// # Safety
/// `gate` is the address of a gate, and what the registers ask the kernel to do is sound for this domain: entry
/// addresses that they carry are those of entry functions written for that.
#[unsafe(naked)]
unsafe extern "sysv64" fn pass(registers: *mut Registers, gate: u64) {
    naked_asm!(
        keep!(),
        load!(),
        "call rax",
        // The Rust ABI wants DF clear; the gate leaves flags undefined.
        "cld",
        "pop rax",
        "mov [rax], rdi",
        "mov [rax + 8], rsi",
        "mov [rax + 16], r8",
        "mov [rax + 24], r9",
        "mov [rax + 32], r10",
        "mov [rax + 40], r12",
        "mov [rax + 48], r13",
        "mov [rax + 56], r14",
        "mov [rax + 64], r11",
        give_back!(),
    )
}

/// Calls an endpoint with words between two marks. Gives the ticks from one to the other.
///
/// # Errors
/// What the kernel says.
#[cfg(target_os = "none")]
pub(super) fn measured_call(target: u64, words: [u64; WORDS]) -> Result<u64, Error> {
    let mut registers = Registers { words, target, ..Registers::default() };
    // SAFETY: as in `call`.
    let ticks = unsafe { measured_pass(&raw mut registers, GATE_CALL) };
    registers.info.result()?;
    Ok(ticks)
}

/// As [`pass`], with marks around the CALL. Gives the ticks.
///
/// # Safety
/// As [`pass`].
#[cfg(target_os = "none")]
#[unsafe(naked)]
unsafe extern "sysv64" fn measured_pass(registers: *mut Registers, gate: u64) -> u64 {
    use crate::proto::bench::Mark;
    naked_asm!(
        keep!(),
        "rdtsc",
        "shl rdx, 32",
        "or rdx, rax",
        "push rdx",
        load!(),
        "nop dword ptr [rax + {begin}]",
        "call rax",
        "nop dword ptr [rax + {end}]",
        "cld",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "pop rdx",
        "sub rax, rdx",
        "pop rdx",
        "mov [rdx + 64], r11",
        give_back!(),
        begin = const Mark::Begin as u32,
        end = const Mark::End as u32,
    )
}

/// Serves calls with the words that they bring, in as few instructions as there can be.
///
/// # Safety
/// Only the kernel enters here.
#[cfg(target_os = "none")]
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn echo_entry() -> ! {
    naked_asm!("mov rax, {reply}", "call rax", "ud2", reply = const GATE_REPLY as i64)
}

/// What an operation of the kernel gave.
pub(super) struct Answer {
    pub(super) words: [u64; WORDS],
    info: Info,
}

impl Answer {
    /// Bytes that the kernel put into the IPC buffer.
    pub(super) fn bytes(&self) -> usize {
        self.info.bytes()
    }
}

fn words<const N: usize>(arguments: [u64; N]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = argument;
    }
    words
}

fn enter(number: Syscall, words: [u64; WORDS], info: Info, deadline: u64) -> Result<Answer, Error> {
    let mut registers = Registers { words, info, target: number as u64, extra: deadline };
    // SAFETY: the gate's address is fixed by the ABI. The operations that take entry addresses are reached only
    // through `syscall_with_entry`, whose callers answer for them; what any other operation does to this domain's
    // memory stays within the IPC buffer, of which no reference exists.
    unsafe { pass(&raw mut registers, GATE_SYSCALL) };
    registers.info.result()?;
    Ok(Answer { words: registers.words, info: registers.info })
}

/// Does one of the kernel's operations that takes words only.
///
/// # Errors
/// What the kernel says.
pub(super) fn syscall<const N: usize>(number: Syscall, arguments: [u64; N]) -> Result<Answer, Error> {
    enter(number, words(arguments), Info::default(), 0)
}

/// The same with a deadline in nanoseconds since boot, 0 for none.
///
/// # Errors
/// What the kernel says.
pub(super) fn syscall_until<const N: usize>(
    number: Syscall,
    arguments: [u64; N],
    deadline: u64,
) -> Result<Answer, Error> {
    enter(number, words(arguments), Info::default(), deadline)
}

/// The same with bytes for the IPC buffer.
///
/// # Errors
/// [`Error::TooLarge`] if they do not fit, and what the kernel says.
pub(super) fn syscall_with<const N: usize>(
    number: Syscall,
    arguments: [u64; N],
    bytes: &[u8],
) -> Result<Answer, Error> {
    let info = Info::new(bytes.len()).ok_or(Error::TooLarge)?;
    buffer::put(bytes)?;
    enter(number, words(arguments), info, 0)
}

/// Goes through the system call gate with any number but those of operations that take entry addresses of this domain,
/// for which [`raw`](super::raw) looks.
///
/// # Errors
/// What the kernel says.
#[cfg(target_os = "none")]
pub(super) fn operate(number: u64, info: u64, words: [u64; WORDS]) -> Result<[u64; WORDS], Error> {
    let mut registers = Registers { words, info: Info::from_raw(info), target: number, extra: 0 };
    // SAFETY: as in `enter`: `raw`, the only caller, has refused entry addresses at which this domain could be entered.
    unsafe { pass(&raw mut registers, GATE_SYSCALL) };
    registers.info.result()?;
    Ok(registers.words)
}

/// Calls an endpoint; the IPC buffer holds what `info` says.
///
/// # Errors
/// What the kernel says.
pub(super) fn call(mut registers: Registers) -> Result<Registers, Error> {
    // SAFETY: as in `enter`; a call takes no entry address.
    unsafe { pass(&raw mut registers, GATE_CALL) };
    registers.info.result()?;
    Ok(registers)
}

/// Replies. It comes back only if the kernel refuses the reply, and then says why.
pub(super) fn reply(mut registers: Registers) -> Error {
    // SAFETY: as in `call`. If the kernel takes the reply this stack is not used again before the next activation
    // starts at its top; the callers hold nothing on it that must be dropped.
    unsafe { pass(&raw mut registers, GATE_REPLY) };
    registers.info.result().err().unwrap_or(Error::Unknown)
}

/// Does not come back, and stays in this domain: the kernel sees an invalid opcode.
pub(super) fn die() -> ! {
    // SAFETY: UD2 raises #UD and has no other effect (Intel SDM vol. 2B).
    unsafe { core::arch::asm!("ud2", options(noreturn, nomem, nostack)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behaves as a gate may: returns each payload register plus one, and leaves something else in all others.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn wild_gate() {
        naked_asm!(
            "inc rdi",
            "inc rsi",
            "inc r8",
            "inc r9",
            "inc r10",
            "inc r12",
            "inc r13",
            "inc r14",
            "inc r11",
            // Shows that target and deadline came in R15 and RBX.
            "shl r15, 8",
            "add rdi, r15",
            "shl rbx, 16",
            "add rdi, rbx",
            "mov rax, -1",
            "mov rbx, -1",
            "mov rcx, -1",
            "mov rdx, -1",
            "mov rbp, -1",
            "mov r15, -1",
            "std",
            "ret",
        )
    }

    /// Calls `pass` with known values in the registers that it has to keep, and tells whether they came back.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn pass_is_clean(registers: *mut Registers, gate: u64) -> bool {
        naked_asm!(
            "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15", "sub rsp, 8",
            "mov rbp, 11", "mov rbx, 12", "mov r12, 13", "mov r13, 14", "mov r14, 15", "mov r15, 16",
            "call {pass}",
            "sub rbp, 11", "sub rbx, 12", "sub r12, 13", "sub r13, 14", "sub r14, 15", "sub r15, 16",
            "or rbp, rbx", "or rbp, r12", "or rbp, r13", "or rbp, r14", "or rbp, r15",
            "pushfq", "pop rax", "and rax, 0x400", "or rbp, rax",
            "test rbp, rbp",
            "sete al",
            "movzx eax, al",
            "cld",
            "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
            "ret",
            pass = sym pass,
        )
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri runs no assembly")]
    fn registers_go_through_and_nothing_else_changes() {
        let info = Info::from_raw(9);
        let mut registers = Registers { words: [1, 2, 3, 4, 5, 6, 7, 8], info, target: 0x12, extra: 0x34 };
        // SAFETY: `wild_gate` does with the registers what `pass` is written for, and touches no memory.
        let clean = unsafe { pass_is_clean(&raw mut registers, wild_gate as *const () as u64) };
        assert!(clean, "a register that Rust keeps values in, or DF, has changed");
        assert_eq!(registers.words, [0x34_1202, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(registers.info.raw(), 10);
    }
}
