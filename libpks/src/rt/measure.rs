//! Marks around what the bench measures ([`crate::proto::bench`]), and the time-stamp counter.

use super::endpoint::Endpoint;
use super::gate;
use crate::abi::message::WORDS;
use crate::abi::{Error, Syscall};
use crate::proto::bench::Mark;
use core::arch::asm;
use core::arch::x86_64::_rdtsc;

/// Executes a mark. Nothing is moved across it.
macro_rules! mark {
    ($mark:expr) => {
        // SAFETY: a NOP with an operand touches no memory (Intel SDM vol. 2B); without `nomem` the compiler moves no access
        // across it.
        unsafe { asm!("nop dword ptr [rax + {}]", const $mark as u32, options(nostack, preserves_flags)) }
    };
}

/// Runs `operation` between two marks. Gives the ticks of the time-stamp counter from before the first to behind the
/// second: instructions where the emulator counts time so, cycles of a constant rate on a CPU.
#[inline(always)]
pub fn around<R>(operation: impl FnOnce() -> R) -> (R, u64) {
    let before = ticks();
    mark!(Mark::Begin);
    let result = operation();
    mark!(Mark::End);
    (result, ticks().wrapping_sub(before))
}

/// Counting starts here.
#[inline(always)]
pub fn begin() {
    mark!(Mark::Begin);
}

/// Counting ends here, in whatever thread that is.
#[inline(always)]
pub fn end() {
    mark!(Mark::End);
}

/// What follows is another row.
pub fn next_row() {
    mark!(Mark::Next);
}

/// That was the last row.
pub fn done() {
    mark!(Mark::Done);
}

/// The time-stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC is allowed, since the kernel leaves CR4.TSD clear, and touches no memory.
    unsafe { _rdtsc() }
}

/// Calls an endpoint with eight words, the marks around the CALL into the gate itself. Gives the ticks.
///
/// # Errors
/// What the kernel says.
pub fn call_words(endpoint: Endpoint, words: [u64; WORDS]) -> Result<u64, Error> {
    gate::measured_call(endpoint.word(), words)
}

/// Begins to serve an endpoint whose calls are answered with the words that they bring, at once.
///
/// # Errors
/// Those of [`serve::start`](super::serve::start).
pub fn serve_echo(endpoint: Endpoint, stack_bytes: u64) -> Result<(), Error> {
    let entry = gate::echo_entry as unsafe extern "sysv64" fn() -> ! as usize as u64;
    gate::syscall(Syscall::EndpointServe, [endpoint.word(), entry, 0, 1, stack_bytes]).map(drop)
}
