//! The direct map: all RAM, under the kernel's key. The kernel reaches domain memory through it, after it has
//! looked up whose frame it is; it never follows a domain's pointer.
//!
//! Every access to it is in this file. Until the kernel's own page tables are in force the loader's direct map
//! serves, at another address.

use super::PAGE;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where physical address 0 is mapped.
static BASE: AtomicU64 = AtomicU64::new(0);

/// Tells where the direct map is.
///
/// # Safety
/// All RAM that is reached from now on is mapped there, writable, in the page tables in force.
pub(super) unsafe fn set_base(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

fn pointer<T>(physical: u64) -> *mut T {
    ptr::with_exposed_provenance_mut((BASE.load(Ordering::Relaxed) + physical) as usize)
}

/// Reads a word of a frame that the kernel owns.
pub(super) fn read_word(physical: u64) -> u64 {
    debug_assert!(physical.is_multiple_of(8));
    // SAFETY: RAM is mapped here (`set_base`); volatile because the CPU reads and other CPUs write page tables.
    unsafe { pointer::<u64>(physical).read_volatile() }
}

/// Writes a word of a frame that the kernel owns.
pub(super) fn write_word(physical: u64, value: u64) {
    debug_assert!(physical.is_multiple_of(8));
    // SAFETY: as in `read_word`; the callers in this module write only to page tables, which no Rust reference
    // points into.
    unsafe { pointer::<u64>(physical).write_volatile(value) }
}

/// Fills a frame with zeros.
pub(crate) fn frame_bytes_zero(physical: u64) {
    debug_assert!(physical.is_multiple_of(PAGE));
    // SAFETY: a frame that was just taken is nobody's; RAM is mapped here.
    unsafe { pointer::<u8>(physical).write_bytes(0, PAGE as usize) }
}

/// Copies from a frame into a buffer. The range must lie in one frame; what is beyond is not copied.
pub(crate) fn copy_from_frame(physical: u64, offset: usize, to: &mut [u8]) {
    let bytes = to.len().min((PAGE as usize).saturating_sub(offset));
    // SAFETY: the range lies in one frame of RAM. A domain may write it at the same time from another CPU; the
    // copy then holds some mixture of bytes, which are checked after copying and nowhere else.
    unsafe { ptr::copy_nonoverlapping(pointer::<u8>(physical + offset as u64), to.as_mut_ptr(), bytes) };
}

/// Copies a buffer into a frame. The range must lie in one frame; what is beyond is not copied.
pub(crate) fn copy_to_frame(physical: u64, offset: usize, from: &[u8]) {
    let bytes = from.len().min((PAGE as usize).saturating_sub(offset));
    // SAFETY: the range lies in one frame of RAM, which holds a domain's memory and no object of the kernel's.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), pointer::<u8>(physical + offset as u64), bytes) };
}

/// Memory that the loader brought and nobody changes any more: a boot module.
///
/// # Safety
/// The range is RAM that is neither freed nor written from now on.
pub(crate) unsafe fn read_physical(physical: u64, bytes: usize) -> &'static [u8] {
    // SAFETY: as the caller promises.
    unsafe { core::slice::from_raw_parts(pointer(physical), bytes) }
}

/// A run of words of RAM that is the caller's from now on, with the content that it has.
///
/// # Safety
/// The range is RAM that nobody else uses, or no longer uses.
pub(super) unsafe fn words_mut(physical: u64, words: usize) -> &'static mut [u64] {
    // SAFETY: as the caller promises; any content is a valid word.
    unsafe { core::slice::from_raw_parts_mut(pointer::<u64>(physical), words) }
}

/// Writes a word to physical memory that the loader's structures lie in.
///
/// # Safety
/// The address is RAM, and somebody waits for the value there.
pub(crate) unsafe fn write_mailbox(physical: u64, value: u64) {
    // SAFETY: as the caller promises; released after everything that the waiter will read.
    unsafe { AtomicU64::from_ptr(pointer(physical)).store(value, Ordering::SeqCst) };
}
