//! The heap of the domain: grows at its end by asking the kernel, and never shrinks.

use super::gate::syscall;
use super::sync::Mutex;
use crate::abi::layout::PAGE;
use crate::abi::{Error, Syscall};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use linked_list_allocator::Heap;

/// Bytes that the heap grows by at least.
const STEP: u64 = 16 * PAGE;
/// What the allocator may need around a block besides its bytes and its alignment.
const MARGIN: usize = 64;

struct Growing(Mutex<Heap>);

#[global_allocator]
static HEAP: Growing = Growing(Mutex::new(Heap::empty()));

// SAFETY: blocks come from `linked_list_allocator`, which gives each byte of the heap to one block at a time, and the
// lock lets one thread at a time into it. Nothing in here unwinds or allocates.
unsafe impl GlobalAlloc for Growing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        if let Ok(block) = heap.allocate_first_fit(layout) {
            return block.as_ptr();
        }
        if grow(&mut heap, layout).is_err() {
            return ptr::null_mut();
        }
        heap.allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        // SAFETY: by the contract of `dealloc` the block came from `alloc` above with this layout.
        unsafe { self.0.lock().deallocate(block, layout) };
    }
}

fn grow(heap: &mut Heap, layout: Layout) -> Result<(), Error> {
    let wanted = layout.size().checked_add(layout.align()).and_then(|sum| sum.checked_add(MARGIN));
    let wanted = wanted.ok_or(Error::InvalidArgument)? as u64;
    let bytes = wanted.max(STEP).checked_next_multiple_of(PAGE).ok_or(Error::InvalidArgument)?;
    let first: *mut u8 =
        ptr::with_exposed_provenance_mut(syscall(Syscall::HeapGrow, [bytes])?.words[0] as usize);
    if heap.size() == 0 {
        // SAFETY: the kernel has just mapped these bytes for this domain alone, and nothing else uses them.
        unsafe { heap.init(first, bytes as usize) };
    } else if heap.top() == first {
        // SAFETY: as above, and they begin where the heap ends.
        unsafe { heap.extend(bytes as usize) };
    } else {
        return Err(Error::WrongState);
    }
    Ok(())
}

/// Bytes that the heap takes up.
pub(super) fn size() -> usize {
    HEAP.0.lock().size()
}
