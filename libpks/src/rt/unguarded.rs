//! Accesses to a region without a guard, for servers whose business it is to be refused.

use super::region::{Region, RegionInfo};
use crate::abi::Error;
use crate::abi::layout::{REGIONS_BASE, REGIONS_BYTES};
use core::arch::asm;

/// A region that is accessed whether or not the calling thread has opened it. If it has not, the access is a fault of
/// the thread. No access enters the kernel otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Unguarded {
    address: u64,
    bytes: u64,
}

impl Region {
    /// The region without a guard.
    ///
    /// # Errors
    /// Those of [`Region::info`].
    pub fn unguarded(self) -> Result<Unguarded, Error> {
        let RegionInfo { address, bytes, .. } = self.info()?;
        Ok(Unguarded { address, bytes })
    }
}

impl Unguarded {
    /// `bytes` at `address`, which is or was a region's: this domain need hold no capability to it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if they do not lie in the area of regions.
    pub fn in_regions(address: u64, bytes: u64) -> Result<Self, Error> {
        let offset = address.checked_sub(REGIONS_BASE).ok_or(Error::InvalidArgument)?;
        let end = offset.checked_add(bytes).ok_or(Error::InvalidArgument)?;
        if end > REGIONS_BYTES { Err(Error::InvalidArgument) } else { Ok(Self { address, bytes }) }
    }

    /// The region's first address.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Reads the aligned 64-bit word at `offset`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is misaligned or does not lie within the region.
    #[inline(never)]
    pub fn read_u64(&self, offset: u64) -> Result<u64, Error> {
        let from = self.place(offset)?;
        let value;
        // SAFETY: the word lies in the area of regions, into which no reference exists. Whether it can be read is the
        // kernel's to say: if not, this instruction faults and has no effect, then or when it is executed again.
        unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) from, options(nostack, preserves_flags)) };
        Ok(value)
    }

    /// Writes the aligned 64-bit word at `offset`.
    ///
    /// # Errors
    /// As [`read_u64`](Self::read_u64).
    #[inline(never)]
    pub fn write_u64(&self, offset: u64, value: u64) -> Result<(), Error> {
        let into = self.place(offset)?;
        // SAFETY: as in `read_u64`: no reference sees the change.
        unsafe { asm!("mov [{}], {}", in(reg) into, in(reg) value, options(nostack, preserves_flags)) };
        Ok(())
    }

    /// Reads the aligned 64-bit word at `offset` with `frame` where the chain of stack frames begins, for whoever looks at
    /// that chain should the access fault. Nobody else sees the frame pointer meanwhile.
    ///
    /// # Errors
    /// As [`read_u64`](Self::read_u64).
    #[inline(never)]
    pub fn read_u64_in_frame(&self, offset: u64, frame: u64) -> Result<u64, Error> {
        let from = self.place(offset)?;
        let value;
        // SAFETY: as in `read_u64`. RBP, which the code around may need, has its value again when this ends; nothing in
        // between uses it.
        unsafe {
            asm!(
                "push rbp",
                "mov rbp, {frame}",
                "mov {value}, [{from}]",
                "pop rbp",
                value = out(reg) value,
                from = in(reg) from,
                frame = in(reg) frame,
                options(preserves_flags),
            );
        }
        Ok(value)
    }

    fn place(&self, offset: u64) -> Result<u64, Error> {
        let end = offset.checked_add(8).ok_or(Error::InvalidArgument)?;
        if end > self.bytes || !offset.is_multiple_of(8) {
            return Err(Error::InvalidArgument);
        }
        self.address.checked_add(offset).ok_or(Error::InvalidArgument)
    }
}
