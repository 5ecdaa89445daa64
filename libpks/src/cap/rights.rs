//! What a capability allows.
#![forbid(unsafe_code)]

use crate::pkey::Rights;

bitflags::bitflags! {
    /// What the holder of a capability may do with its object. Derivation only takes bits away.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CapRights: u16 {
        /// Region: activate for reading. Other objects: look at their state.
        const READ = 1 << 0;
        /// Region: activate for writing. Ports: write to them.
        const WRITE = 1 << 1;
        /// Endpoint: call.
        const CALL = 1 << 2;
        /// Endpoint: receive calls.
        const SERVE = 1 << 3;
        /// Notification: set bits.
        const SIGNAL = 1 << 4;
        /// Notification: wait for bits.
        const WAIT = 1 << 5;
        /// Give it to another domain: a copy, the capability itself, or a loan.
        const GRANT = 1 << 6;
        /// Control the object: start and stop a domain, change a thread, give a region another key, receive an
        /// interrupt line's interrupts.
        const MANAGE = 1 << 7;
    }
}

impl CapRights {
    /// The most that a Region capability with these rights lets a thread do with the memory.
    ///
    /// The hardware knows no write without read, so WRITE without READ gives nothing.
    #[must_use]
    pub const fn access(self) -> Rights {
        match (self.contains(Self::READ), self.contains(Self::WRITE)) {
            (true, true) => Rights::ReadWrite,
            (true, false) => Rights::ReadOnly,
            (false, _) => Rights::NoAccess,
        }
    }
}
