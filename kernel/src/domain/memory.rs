//! A domain's private memory: contexts and heap in its slot.

use super::Domain;
use crate::mem::{self, Mapping, PAGE};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{Seat, context_base};
use crate::view::View;
use libpks::abi::{Error, layout};
use libpks::cap::Owner;
use libpks::pkey::{Pkey, Pkrs};

impl Kernel {
    /// A place to run in a domain: a stack of at least this many bytes with a guard page, and an IPC buffer.
    ///
    /// # Errors
    /// `InvalidArgument` for a stack that no context holds, `LimitReached`, `QuotaExceeded`, `OutOfMemory`.
    pub(crate) fn create_seat(&mut self, domain: Ref<Domain>, stack_bytes: u64) -> Result<Seat, Error> {
        let stack_bytes = if stack_bytes == 0 { layout::STACK_DEFAULT_BYTES } else { stack_bytes };
        if stack_bytes > layout::STACK_MAX_BYTES {
            return Err(Error::InvalidArgument);
        }
        let pages = stack_bytes.div_ceil(PAGE);
        self.charge(domain, (pages + 1) * PAGE)?;
        let books = &mut self.domains[domain];
        let Some(context) = books.contexts.take() else {
            self.refund(domain, (pages + 1) * PAGE);
            return Err(Error::LimitReached);
        };
        books.contexts.stack_pages[context as usize] = pages as u8;
        let base = context_base(books.base, context);
        let mapping = Mapping::data(books.key.unwrap_or(Pkey::KERNEL));
        let top = base + layout::STACK_TOP_OFFSET;
        let stack =
            (1..=pages).try_for_each(|page| self.map_fresh_page(top - page * PAGE, mapping).map(|_| ()));
        let buffer = stack.and_then(|()| self.map_fresh_page(base + layout::IPC_BUFFER_OFFSET, mapping));
        match buffer {
            Ok(buffer) => {
                let mut seat = Seat { domain, context, openings: None, word: Pkrs::DEFAULT, buffer };
                seat.word = self.derive_word(&seat);
                Ok(seat)
            }
            Err(error) => {
                self.release_context(domain, context);
                Err(error)
            }
        }
    }

    /// Gives a seat's memory back, if its domain still has it.
    pub(crate) fn release_seat(&mut self, seat: &Seat) {
        self.drop_openings(seat.domain, seat.openings);
        if self.domains.get(seat.domain).is_some_and(|domain| domain.contexts.is_used(seat.context)) {
            self.release_context(seat.domain, seat.context);
        }
    }

    fn release_context(&mut self, domain: Ref<Domain>, context: u32) {
        let books = &mut self.domains[domain];
        let pages = u64::from(books.contexts.stack_pages[context as usize]);
        let base = context_base(books.base, context);
        self.unmap_range(base + layout::STACK_TOP_OFFSET - pages * PAGE, pages);
        self.unmap_range(base + layout::IPC_BUFFER_OFFSET, 1);
        self.refund(domain, (pages + 1) * PAGE);
        self.domains[domain].contexts.release(context);
    }

    /// Adds whole pages to a domain's heap. Gives the address of the first.
    ///
    /// # Errors
    /// `InvalidArgument` for no bytes, `LimitReached`, `QuotaExceeded`, `OutOfMemory`.
    pub(crate) fn grow_heap(&mut self, domain: Ref<Domain>, bytes: u64) -> Result<u64, Error> {
        let pages = bytes.div_ceil(PAGE);
        let books = &self.domains[domain];
        let grown = books.heap_bytes.checked_add(pages.saturating_mul(PAGE)).ok_or(Error::LimitReached)?;
        if pages == 0 {
            return Err(Error::InvalidArgument);
        }
        if grown > layout::HEAP_MAX_BYTES {
            return Err(Error::LimitReached);
        }
        let start = books.base + layout::HEAP_OFFSET + books.heap_bytes;
        let mapping = Mapping::data(books.key.unwrap_or(Pkey::KERNEL));
        self.charge(domain, pages * PAGE)?;
        for page in 0..pages {
            if let Err(error) = self.map_fresh_page(start + page * PAGE, mapping) {
                self.unmap_range(start, page);
                self.refund(domain, pages * PAGE);
                return Err(error);
            }
        }
        self.domains[domain].heap_bytes = grown;
        Ok(start)
    }

    /// Takes a domain's private memory away, scrubbed when it is used again, and gives its key back.
    pub(super) fn release_domain_memory(&mut self, domain: Ref<Domain>) {
        let books = &self.domains[domain];
        let (base, image, heap) = (books.base, books.image_bytes, books.heap_bytes);
        if base != 0 {
            self.unmap_range(base + layout::IMAGE_OFFSET, image / PAGE);
            self.unmap_range(base + layout::HEAP_OFFSET, heap / PAGE);
            for context in 0..layout::CONTEXT_COUNT as u32 {
                if self.domains[domain].contexts.is_used(context) {
                    self.release_context(domain, context);
                }
            }
        }
        let books = &mut self.domains[domain];
        (books.image_bytes, books.heap_bytes, books.key) = (0, 0, None);
        books.used_bytes = books.lasting_bytes;
        let Some((view, member)) = books.view.zip(books.member.take()) else { return };
        let View { keys, tables, .. } = &mut self.views[view];
        tables.hide_slot(base);
        let freed = self.sharing.leave(member, keys);
        self.invalidate(base, 1);
        if let Some(key) = freed {
            self.release_key(view, key);
        }
    }

    /// Copies from an IPC buffer.
    pub(crate) fn read_buffer(&self, seat: &Seat, to: &mut [u8]) {
        mem::copy_from_frame(seat.buffer, 0, to);
    }

    /// Copies into an IPC buffer.
    pub(crate) fn write_buffer(&self, seat: &Seat, from: &[u8]) {
        mem::copy_to_frame(seat.buffer, 0, from);
    }

    /// The owner of the capabilities that a thread uses: the domain in which it is.
    pub(crate) fn owner(&self, thread: Ref<crate::thread::Thread>) -> Owner {
        Owner(self.seat(thread).domain.number())
    }
}
