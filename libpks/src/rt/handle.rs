//! Capabilities by type, and who deletes them.
//!
//! A typed capability such as [`Endpoint`](super::Endpoint) is a handle and nothing else: it can be copied, and dropping
//! it does nothing. What the domain was started with is of that sort. What an operation makes, or a message brings,
//! is [`Owned`]: dropping it deletes the capability, [`Owned::keep`] does away with that.
//!
//! The type says what the handle is believed to name. The kernel does not believe it: a wrong one makes operations
//! fail with [`Error::WrongObject`] or [`Error::NoSuchCapability`].
#![forbid(unsafe_code)]

use super::gate::syscall;
use crate::abi::{Error, Syscall};
use crate::cap::{CapRights, Handle, ObjectKind};
use core::mem;
use core::ops::Deref;

/// What a handle names, as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The kind of object.
    pub kind: ObjectKind,
    /// What may be done with it.
    pub rights: CapRights,
    /// Its badge, 0 for none.
    pub badge: u64,
}

/// A capability of this domain. Every operation can fail with [`Error::NoSuchCapability`], [`Error::WrongObject`] and
/// [`Error::MissingRights`].
pub trait Capability: Copy {
    /// The kind of object that it names; `None` if that is open.
    const KIND: Option<ObjectKind>;

    /// Believes that `handle` names such an object.
    fn from_handle(handle: Handle) -> Self;

    /// Its handle.
    fn handle(self) -> Handle;

    /// Derives a capability with these rights and this badge (0 keeps the one it has).
    ///
    /// # Errors
    /// [`Error::RightsExceeded`], [`Error::AlreadyBadged`], [`Error::QuotaExceeded`].
    fn mint(self, rights: CapRights, badge: u64) -> Result<Owned<Self>, Error> {
        let arguments = [self.handle().raw(), u64::from(rights.bits()), badge];
        Ok(Owned::from_word(syscall(Syscall::CapMint, arguments)?.words[0]))
    }

    /// Deletes it. The object goes with its last capability.
    ///
    /// # Errors
    /// As the trait says.
    fn delete(self) -> Result<(), Error> {
        syscall(Syscall::CapDelete, [self.handle().raw()]).map(drop)
    }

    /// Deletes everything derived from it, in every domain. When it returns, no thread has rights through those.
    ///
    /// # Errors
    /// As the trait says.
    fn revoke(self) -> Result<(), Error> {
        syscall(Syscall::CapRevoke, [self.handle().raw()]).map(drop)
    }

    /// Asks what it names.
    ///
    /// # Errors
    /// As the trait says; [`Error::Unknown`] for a kind that this version does not know.
    fn identify(self) -> Result<Identity, Error> {
        let [kind, rights, badge, ..] = syscall(Syscall::CapIdentify, [self.handle().raw()])?.words;
        let kind = u8::try_from(kind).ok().and_then(ObjectKind::from_code).ok_or(Error::Unknown)?;
        Ok(Identity { kind, rights: CapRights::from_bits_truncate(rights as u16), badge })
    }

    /// The same handle, believed to name something else.
    ///
    /// # Errors
    /// [`Error::WrongObject`] if it names something else than `T`, and what [`identify`](Self::identify) says.
    fn cast<T: Capability>(self) -> Result<T, Error> {
        match T::KIND {
            Some(kind) if self.identify()?.kind != kind => Err(Error::WrongObject),
            _ => Ok(T::from_handle(self.handle())),
        }
    }
}

/// A capability that is deleted when this is dropped.
#[derive(Debug)]
pub struct Owned<T: Capability>(T);

impl<T: Capability> Owned<T> {
    /// Takes charge of a capability that nobody else will delete.
    pub const fn new(capability: T) -> Self {
        Self(capability)
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(T::from_handle(Handle::from_raw(word)))
    }

    /// Leaves the capability in the domain for good.
    pub fn keep(self) -> T {
        let capability = self.0;
        mem::forget(self);
        capability
    }

    /// The same, believed to name a `U`.
    ///
    /// # Errors
    /// As [`Capability::cast`]; the capability is then deleted.
    pub fn into_kind<U: Capability>(self) -> Result<Owned<U>, Error> {
        let cast = self.0.cast::<U>()?;
        self.keep();
        Ok(Owned(cast))
    }
}

impl<T: Capability> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Capability> Drop for Owned<T> {
    fn drop(&mut self) {
        // It may be gone already: revoked, or handed over.
        let _ = self.0.delete();
    }
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $name:ident, $kind:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name($crate::cap::Handle);

        impl $crate::rt::handle::Capability for $name {
            const KIND: Option<$crate::cap::ObjectKind> = $kind;

            fn from_handle(handle: $crate::cap::Handle) -> Self {
                Self(handle)
            }

            fn handle(self) -> $crate::cap::Handle {
                self.0
            }
        }

        impl $name {
            /// The word that stands for it in a message.
            #[allow(dead_code, reason = "not every kind needs it")]
            pub(crate) fn word(self) -> u64 {
                self.0.raw()
            }
        }
    )+};
}
pub(super) use capabilities;

capabilities! {
    /// A capability to whatever it may be.
    AnyCap, None;
}
