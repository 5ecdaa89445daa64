//! Regions: memory that domains share, open only while a guard lives.
//!
//! A capability to a region does not open it. [`Region::open_read`] and [`Region::open_write`] do, for the calling
//! thread, until the guard is dropped; guards nest, and what the thread may do is what its living guards say together.
//! Bytes are copied in and out; there are no references into a region, as other domains may write it at any time.

use super::gate::syscall;
use super::handle::{Owned, capabilities};
use super::system::Key;
use crate::abi::{Error, Syscall};
use crate::cap::ObjectKind;
use crate::opening::{Books, Opening};
use core::arch::asm;
use core::marker::PhantomData;
use core::ops::Deref;

capabilities! {
    /// A range of memory at one address for every domain.
    Region, Some(ObjectKind::Region);
}

/// What a thread may do with a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum Access {
    /// Nothing.
    None = 0,
    /// Read.
    ReadOnly = 1,
    /// Read and write.
    ReadWrite = 2,
}

/// What the kernel tells of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionInfo {
    /// Its first address.
    pub address: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its hardware key, 0 without keys.
    pub key: u8,
    /// What the calling thread may do with it right now, as the kernel numbers it.
    pub live_rights: u64,
}

impl Region {
    /// Makes a region of at least `bytes` bytes, under a key that the kernel chooses or under `key`.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`], [`Error::KeysExhausted`], [`Error::LimitReached`].
    pub fn create(bytes: u64, key: Option<Key>) -> Result<Owned<Self>, Error> {
        let arguments = [bytes, key.map_or(0, Key::word)];
        Ok(Owned::from_word(syscall(Syscall::RegionCreate, arguments)?.words[0]))
    }

    /// Where it lies and under which key.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn info(self) -> Result<RegionInfo, Error> {
        let [address, bytes, key, live_rights, ..] = syscall(Syscall::RegionInfo, [self.word()])?.words;
        Ok(RegionInfo { address, bytes, key: key as u8, live_rights })
    }

    /// Opens it for reading by the calling thread.
    ///
    /// # Errors
    /// [`Error::RightsExceeded`].
    pub fn open_read(self) -> Result<ReadGuard, Error> {
        self.open(Access::ReadOnly)
    }

    /// Opens it for reading and writing by the calling thread.
    ///
    /// # Errors
    /// [`Error::RightsExceeded`].
    pub fn open_write(self) -> Result<WriteGuard, Error> {
        self.open(Access::ReadWrite).map(WriteGuard)
    }

    fn open(self, access: Access) -> Result<ReadGuard, Error> {
        let [token, address, bytes, ..] = syscall(Syscall::RegionOpen, [self.word(), access as u64])?.words;
        Ok(ReadGuard { address, bytes, opening: Opening::new(token, Kernel), bound_to_thread: PhantomData })
    }

    /// Sets what every thread of this domain may do with it beyond its own guards. It holds on every CPU when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::RightsExceeded`].
    pub fn open_global(self, access: Access) -> Result<(), Error> {
        syscall(Syscall::RegionOpenGlobal, [self.word(), access as u64]).map(drop)
    }

    /// Gives it another hardware key.
    ///
    /// # Errors
    /// [`Error::Busy`], and those of [`Capability`](super::Capability).
    pub fn rekey(self, key: Key) -> Result<(), Error> {
        syscall(Syscall::RegionRekey, [self.word(), key.word()]).map(drop)
    }
}

/// A region that is open for reading by the thread that opened it. Dropping it closes it.
///
/// If the capability is revoked meanwhile, the next access is a fault of this domain.
#[derive(Debug)]
pub struct ReadGuard {
    address: u64,
    bytes: u64,
    #[expect(dead_code, reason = "its drop closes")]
    opening: Opening<Kernel>,
    /// The right is the thread's, so the guard is neither Send nor Sync.
    bound_to_thread: PhantomData<*const ()>,
}

impl ReadGuard {
    /// The region's first address.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// The region's length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The address of `length` bytes at `offset`, which must be a multiple of `align`.
    fn place(&self, offset: u64, length: u64, align: u64) -> Result<u64, Error> {
        let end = offset.checked_add(length).ok_or(Error::InvalidArgument)?;
        if end > self.bytes || !offset.is_multiple_of(align) {
            return Err(Error::InvalidArgument);
        }
        self.address.checked_add(offset).ok_or(Error::InvalidArgument)
    }

    /// Copies bytes at `offset` out of the region. Others may write them meanwhile, so they may be of no one time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if they do not lie within it.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let from = self.place(offset, into.len() as u64, 1)?;
        // SAFETY: the source lies within the region, which the kernel has mapped for as long as this domain holds a
        // capability; if that goes, the access faults and ends the domain. The target is exclusively borrowed and
        // cannot lie in a region. To the compiler the source is memory of a device, so races with other domains are
        // the machine's: each byte is read once. DF is clear by the ABI.
        unsafe {
            asm!(
                "rep movsb",
                inout("rsi") from => _,
                inout("rdi") into.as_mut_ptr() => _,
                inout("rcx") into.len() => _,
                options(nostack, preserves_flags),
            );
        }
        Ok(())
    }

    /// Reads the aligned 64-bit word at `offset`, all of it at one time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is misaligned or does not lie within the region.
    pub fn read_u64(&self, offset: u64) -> Result<u64, Error> {
        let from = self.place(offset, 8, 8)?;
        let value;
        // SAFETY: as in `read`, and nothing is written.
        unsafe {
            asm!("mov {}, [{}]", out(reg) value, in(reg) from, options(nostack, preserves_flags, readonly));
        }
        Ok(value)
    }

    /// Reads the aligned 32-bit word at `offset`, all of it at one time.
    ///
    /// # Errors
    /// As [`read_u64`](Self::read_u64).
    pub fn read_u32(&self, offset: u64) -> Result<u32, Error> {
        let from = self.place(offset, 4, 4)?;
        let value;
        // SAFETY: as in `read_u64`.
        unsafe {
            asm!("mov {:e}, [{}]", out(reg) value, in(reg) from, options(nostack, preserves_flags, readonly));
        }
        Ok(value)
    }
}

/// The kernel's books on what the calling thread has open.
#[derive(Debug)]
struct Kernel;

impl Books for Kernel {
    fn close(&self, token: u64) {
        // The kernel refuses only a token that is not this thread's or was revoked; both leave nothing to close.
        let _ = syscall(Syscall::RegionClose, [token]);
    }
}

/// A region that is open for reading and writing by the thread that opened it.
#[derive(Debug)]
pub struct WriteGuard(ReadGuard);

impl Deref for WriteGuard {
    type Target = ReadGuard;

    fn deref(&self) -> &ReadGuard {
        &self.0
    }
}

impl WriteGuard {
    /// Copies bytes into the region at `offset`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if they do not fit.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let into = self.place(offset, from.len() as u64, 1)?;
        // SAFETY: as in `ReadGuard::read` with the roles changed: no reference into a region exists, so none sees the
        // change.
        unsafe {
            asm!(
                "rep movsb",
                inout("rsi") from.as_ptr() => _,
                inout("rdi") into => _,
                inout("rcx") from.len() => _,
                options(nostack, preserves_flags),
            );
        }
        Ok(())
    }

    /// Writes the aligned 64-bit word at `offset`, all of it at one time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is misaligned or does not lie within the region.
    pub fn write_u64(&self, offset: u64, value: u64) -> Result<(), Error> {
        let into = self.place(offset, 8, 8)?;
        // SAFETY: as in `write`.
        unsafe { asm!("mov [{}], {}", in(reg) into, in(reg) value, options(nostack, preserves_flags)) };
        Ok(())
    }

    /// Writes the aligned 32-bit word at `offset`, all of it at one time.
    ///
    /// # Errors
    /// As [`write_u64`](Self::write_u64).
    pub fn write_u32(&self, offset: u64, value: u32) -> Result<(), Error> {
        let into = self.place(offset, 4, 4)?;
        // SAFETY: as in `write`.
        unsafe { asm!("mov [{}], {:e}", in(reg) into, in(reg) value, options(nostack, preserves_flags)) };
        Ok(())
    }
}
