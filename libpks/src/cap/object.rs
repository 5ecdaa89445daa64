//! What a capability names.
#![forbid(unsafe_code)]

use super::CapRights;

macro_rules! object_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// The kind of object that a capability names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ObjectKind {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl ObjectKind {
            /// All kinds, by code.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The kind with this code, if there is one.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The code that travels in messages.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }
        }
    };
}

object_kinds! {
    /// A domain: start, stop, hear of its faults.
    Domain = 1,
    /// A thread.
    Thread = 2,
    /// Where calls are made and served.
    Endpoint = 3,
    /// A word of bits to set and to wait for.
    Notification = 4,
    /// Memory at a fixed address, under a key.
    Region = 5,
    /// An interrupt line of the interrupt controller.
    IrqLine = 6,
    /// A range of I/O ports.
    IoPorts = 7,
    /// A budget of memory.
    MemoryQuota = 8,
    /// The pool of hardware keys.
    KeyPool = 9,
    /// A hardware key that was taken from the pool.
    Key = 10,
    /// A module that the boot loader brought.
    BootModule = 11,
    /// What no ordinary domain may do, for the tests.
    SelfTest = 12,
    /// The kernel's log.
    KernelLog = 13,
    /// Power off and reset.
    Power = 14,
    /// The kernel's view of domains, threads and memory, to read.
    Inspect = 15,
}

/// Names one object of the kernel; stale once the object has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Which of the kernel's tables.
    pub kind: ObjectKind,
    /// Place in that table.
    pub index: u32,
    /// Which of the objects that had this place.
    pub generation: u32,
}

/// An object, what may be done with it, and the badge by which a server tells its callers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capability {
    /// What it names.
    pub object: ObjectId,
    /// What it allows.
    pub rights: CapRights,
    /// 0 for none. Set once, by the minting holder; everything derived from then on carries it.
    pub badge: u64,
}
