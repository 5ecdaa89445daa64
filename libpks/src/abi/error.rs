//! Every way in which an operation of the kernel can fail.

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal;)+) => {
        /// Why an operation failed. The number is what travels in the upper half of R11.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Error {
            /// Reads the code of an outcome.
            ///
            /// # Errors
            /// The error with that code; [`Error::Unknown`] for a code that this version does not have.
            pub const fn from_code(code: u32) -> Result<(), Error> {
                match code {
                    0 => Ok(()),
                    $($code => Err(Error::$name),)+
                    _ => Err(Error::Unknown),
                }
            }

            /// All errors, in the order of their codes.
            pub const ALL: &[Error] = &[$(Error::$name),+];
        }

        impl core::fmt::Display for Error {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $(Error::$name => $text,)+ })
            }
        }

        impl core::error::Error for Error {}
    };
}

errors! {
    /// The number names no operation.
    NoSuchSyscall = 1, "no such operation";
    /// The handle names no capability of this domain: forged, deleted or revoked.
    NoSuchCapability = 2, "no such capability";
    /// The capability names an object of another kind.
    WrongObject = 3, "capability names another kind of object";
    /// The capability lacks a right that the operation needs.
    MissingRights = 4, "capability lacks the right";
    /// More rights were asked for than the capability has.
    RightsExceeded = 5, "more rights than the capability has";
    /// The capability has a badge already; it cannot get another.
    AlreadyBadged = 6, "capability has a badge already";
    /// An argument is out of range, misaligned or reserved.
    InvalidArgument = 7, "invalid argument";
    /// The machine has no free memory.
    OutOfMemory = 8, "out of memory";
    /// The domain's memory quota is used up.
    QuotaExceeded = 9, "memory quota exceeded";
    /// All protection keys are in use.
    KeysExhausted = 10, "protection keys exhausted";
    /// A key of the CPU was asked for in particular, and none is in use there.
    KeysUnsupported = 11, "no protection keys on this CPU";
    /// The callee died before it accepted the call.
    PeerDied = 12, "peer died";
    /// The callee died while it worked on the call: the request may have taken effect.
    PeerDiedMidCall = 13, "peer died, the request may have run";
    /// The deadline passed before the call was accepted or the event came.
    TimedOut = 14, "timed out";
    /// Nothing is there and the caller did not want to wait.
    WouldBlock = 15, "would block";
    /// The callee is on the caller's own chain of calls and has no free activation.
    WouldDeadlock = 16, "would deadlock";
    /// Waiting would close a cycle of waiting threads.
    Deadlock = 17, "deadlock";
    /// The chain of calls is as deep as it may be.
    TooDeep = 18, "call chain too deep";
    /// No domain serves the endpoint.
    NotServed = 19, "endpoint is not served";
    /// The object is in use in a way that excludes the operation.
    Busy = 20, "busy";
    /// The object is not in the state that the operation needs.
    WrongState = 21, "object is in another state";
    /// A limit of the layout is reached: slots, contexts, address space.
    LimitReached = 22, "limit reached";
    /// The message is malformed: sizes, reserved bits, transfers.
    BadMessage = 23, "malformed message";
    /// The image is not a server that this kernel can load; the kernel's log says why.
    BadImage = 24, "image refused";
    /// The image was built for another version of the ABI.
    AbiMismatch = 25, "image was built for another ABI version";
    /// This machine or build cannot do it.
    Unsupported = 26, "unsupported";
    /// Nothing has that name or number.
    NotFound = 27, "not found";
    /// The bytes in the buffer are not what the protocol says.
    Malformed = 28, "malformed data";
    /// The answer does not fit into the buffer.
    TooLarge = 29, "too large";
    /// The object that was waited for has gone.
    Gone = 30, "object is gone";
    /// The quota has not so much CPU time left: the budgets of all domains together are no more than one CPU has.
    CpuExceeded = 31, "quota of CPU time exceeded";
    /// A code that this version does not know.
    Unknown = 255, "unknown error";
}

macro_rules! error_from {
    ($($type:path { $($name:ident $(($inner:ident))? => $error:expr,)+ })+) => {
        $(impl From<$type> for Error {
            fn from(error: $type) -> Error {
                use $type::*;
                match error { $($name $(($inner))? => $error,)+ }
            }
        })+
    };
}

error_from! {
    crate::cap::CapError {
        NoSuchCapability => Error::NoSuchCapability,
        WrongKind => Error::WrongObject,
        MissingRights => Error::MissingRights,
        RightsExceeded => Error::RightsExceeded,
        AlreadyBadged => Error::AlreadyBadged,
        Lent => Error::MissingRights,
        Worn => Error::LimitReached,
        NoSuchSpace => Error::Gone,
        SpaceInUse => Error::Busy,
        SpaceFull => Error::LimitReached,
        OutOfMemory => Error::OutOfMemory,
    }
    crate::pkey::KeyError {
        Exhausted => Error::KeysExhausted,
        NotAllocated => Error::InvalidArgument,
        Reserved => Error::InvalidArgument,
    }
    crate::sharing::SharingError {
        NoSuchClass => Error::Gone,
        WrongState => Error::WrongState,
        Pinned => Error::Busy,
        Key(error) => error.into(),
        OutOfMemory => Error::OutOfMemory,
    }
}

impl From<crate::table::OutOfMemory> for Error {
    fn from(crate::table::OutOfMemory: crate::table::OutOfMemory) -> Error {
        Error::OutOfMemory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_register() {
        for &error in Error::ALL {
            assert_eq!(Error::from_code(error as u32), Err(error));
        }
        assert_eq!(Error::from_code(0), Ok(()));
        assert_eq!(Error::from_code(31_337), Err(Error::Unknown));
    }
}
