//! The IPC buffer of the running context: copied into and out of, never borrowed.

use crate::abi::Error;
use crate::abi::layout::{IPC_BUFFER_BYTES, ipc_buffer_of};
use core::arch::asm;
use core::ptr;

fn base() -> *mut u8 {
    let rsp: u64;
    // SAFETY: copies a register and touches nothing else.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    ptr::with_exposed_provenance_mut(ipc_buffer_of(rsp) as usize)
}

/// Puts `bytes` at the beginning of the buffer.
///
/// # Errors
/// [`Error::TooLarge`].
pub(super) fn put(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > IPC_BUFFER_BYTES {
        return Err(Error::TooLarge);
    }
    // SAFETY: all code of a server runs on the stack of a context, so `base` is that context's IPC buffer: mapped,
    // writable, IPC_BUFFER_BYTES long, and used by no other thread. `bytes` cannot lie in it, as nobody makes
    // references into it.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), base(), bytes.len()) };
    Ok(())
}

/// Fills `bytes` from the beginning of the buffer; what is longer than the buffer is left as it is.
pub(super) fn take(bytes: &mut [u8]) {
    let length = bytes.len().min(IPC_BUFFER_BYTES);
    // SAFETY: as in `put`; the kernel writes the buffer only while this thread is in a gate.
    unsafe { ptr::copy_nonoverlapping(base(), bytes.as_mut_ptr(), length) };
}
