//! Loads a server's image, once it is checked: copies it, relocates it, and only then maps it, text without write and
//! data without execution.

use super::Domain;
use crate::mem::{self, Mapping, PAGE};
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::{Error, layout};
use libpks::elf::{Image, Protection};
use libpks::pkey::Pkey;
use libpks::verify;

impl Kernel {
    /// Loads the image of a module into a domain's slot.
    ///
    /// # Errors
    /// `NotFound`, `BadImage`, `AbiMismatch` (the log says why), `QuotaExceeded`, `OutOfMemory`.
    pub(super) fn load_image(&mut self, domain: Ref<Domain>, module: usize) -> Result<(), Error> {
        let image = self.checked_image(module)?;
        let span = image.span().next_multiple_of(PAGE);
        let books = &mut self.domains[domain];
        let base = books.base + layout::IMAGE_OFFSET;
        (books.image_bytes, books.entry) = (span, base + image.entry());
        self.copy_segments(domain, base, &image)?;
        for relocation in image.relocations() {
            let value = base.wrapping_add(relocation.addend);
            self.write_image(base + relocation.target, &value.to_le_bytes());
        }
        self.protect_image(base, &image)
    }

    /// Maps every page of the segments, writable for nobody but the kernel's direct map, and copies the file's bytes.
    fn copy_segments(&mut self, domain: Ref<Domain>, base: u64, image: &Image<'_>) -> Result<(), Error> {
        let key = self.domains[domain].key.unwrap_or(Pkey::KERNEL);
        for segment in image.segments() {
            self.charge(domain, segment.page_end() - segment.vaddr)?;
            for page in (segment.vaddr..segment.page_end()).step_by(PAGE as usize) {
                let frame = self.map_fresh_page(base + page, Mapping::constant(key))?;
                if segment.protection == Protection::ReadExecute {
                    // No byte of an executable page comes from anywhere else, so a jump behind the text traps.
                    mem::copy_to_frame(frame, 0, &[verify::FILL; PAGE as usize]);
                }
                let from = (page - segment.vaddr) as usize;
                let data = segment.data.get(from..).unwrap_or_default();
                mem::copy_to_frame(frame, 0, &data[..data.len().min(PAGE as usize)]);
            }
        }
        Ok(())
    }

    /// Writes to an image that is being loaded. Targets are words in pages that `copy_segments` has mapped.
    fn write_image(&mut self, address: u64, bytes: &[u8]) {
        if let Some(leaf) = mem::with(|memory| memory.tables.walk(address)) {
            mem::copy_to_frame(leaf.frame(address), (address % PAGE) as usize, bytes);
        }
    }

    /// Gives every page of the image its final rights, and makes text read-only in the direct map.
    fn protect_image(&mut self, base: u64, image: &Image<'_>) -> Result<(), Error> {
        for segment in image.segments() {
            for page in (segment.vaddr..segment.page_end()).step_by(PAGE as usize) {
                let address = base + page;
                let protection = image.protection(page).unwrap_or(Protection::ReadOnly);
                let Some(leaf) = mem::with(|memory| memory.tables.walk(address)) else { continue };
                let mapping = match protection {
                    Protection::ReadOnly => Mapping::constant(leaf.key()),
                    Protection::ReadWrite => Mapping::data(leaf.key()),
                    Protection::ReadExecute => Mapping::text(leaf.key()),
                };
                if protection == Protection::ReadExecute {
                    self.protect_frame(leaf.frame(address), false)?;
                }
                mem::with(|memory| memory.tables.protect(address, mapping));
            }
        }
        // What was mapped while the image was copied had less than its final rights.
        let span = image.span().next_multiple_of(PAGE);
        self.invalidate(base, span / PAGE);
        Ok(())
    }
}
