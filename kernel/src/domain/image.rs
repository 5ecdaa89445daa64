//! Checks a server's image: that it is one, that it is the one that the image builder has passed, and that its text holds
//! nothing that lifts a domain over its wall.

use crate::mem::{self, PAGE};
use crate::state::Kernel;
use libpks::abi::{self, Error, layout};
use libpks::elf::{ElfError, Image};
use libpks::manifest_head::Digest;
use libpks::verify::{self, Finding};
use sha2::{Digest as _, Sha256};

/// Why an image is not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Elf(ElfError),
    #[error("built for ABI {0}, this kernel has {own}", own = abi::VERSION)]
    Abi(u32),
    #[error("spans {0} bytes")]
    Span(u64),
    #[error("the manifest does not name it")]
    NotInManifest,
    #[error("not the file that the manifest names: its digest is another")]
    Digest,
    #[error("its text holds {0}")]
    Text(Finding),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Abi(_) => Error::AbiMismatch,
            _ => Error::BadImage,
        }
    }
}

impl Kernel {
    /// The bytes of a boot module.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn module_bytes(&self, module: usize) -> Result<&'static [u8], Error> {
        let module = self.boot.modules.get(module).ok_or(Error::NotFound)?;
        // SAFETY: the loader put the file there; its memory is neither freed nor written while the kernel runs.
        Ok(unsafe { mem::read_physical(module.physical, module.bytes as usize) })
    }

    /// The image in a module, checked. Its bytes never change, so digest and text are looked at once.
    ///
    /// # Errors
    /// `NotFound`, `BadImage`, `AbiMismatch` (the log says why).
    pub(super) fn checked_image(&mut self, module: usize) -> Result<Image<'static>, Error> {
        let bytes = self.module_bytes(module)?;
        let checked = self.check_image(module, bytes);
        match checked {
            Ok(image) => {
                self.passed_images[module] = true;
                Ok(image)
            }
            Err(refusal) => {
                log::error!(target: "domain", "{}: image refused: {refusal}", self.boot.modules[module].name);
                Err(refusal.into())
            }
        }
    }

    fn check_image(&self, module: usize, bytes: &'static [u8]) -> Result<Image<'static>, Refusal> {
        let image = Image::parse(bytes).map_err(Refusal::Elf)?;
        if image.abi_version() != abi::VERSION {
            return Err(Refusal::Abi(image.abi_version()));
        }
        if image.span().next_multiple_of(PAGE) > layout::IMAGE_MAX_BYTES {
            return Err(Refusal::Span(image.span()));
        }
        if !self.passed_images[module] {
            // Without a manifest `init` alone starts, to say so; what keeps it in its domain is the look at its text.
            if let Some(manifest) = self.manifest() {
                let expected =
                    manifest.digest(&self.boot.modules[module].name).ok_or(Refusal::NotInManifest)?;
                if Digest::from(Sha256::digest(bytes)) != expected {
                    return Err(Refusal::Digest);
                }
            }
            verify::image(&image).map_err(Refusal::Text)?;
        }
        Ok(image)
    }
}
