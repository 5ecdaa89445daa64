//! What drivers reach hardware with: ports and interrupt lines. Memory of devices comes as regions.
#![forbid(unsafe_code)]

use super::gate::syscall;
use super::handle::{Owned, capabilities};
use super::notification::Notification;
use crate::abi::{Error, Syscall};
use crate::cap::ObjectKind;

capabilities! {
    /// A range of I/O ports.
    IoPorts, Some(ObjectKind::IoPorts);
    /// An interrupt line, or all of them.
    IrqLine, Some(ObjectKind::IrqLine);
}

impl IoPorts {
    /// Reads `width` bytes (1, 2 or 4) from a port.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the range does not hold the port, or for the width.
    pub fn read(self, port: u16, width: u8) -> Result<u32, Error> {
        let arguments = [self.word(), u64::from(port), u64::from(width)];
        Ok(syscall(Syscall::PortRead, arguments)?.words[0] as u32)
    }

    /// Writes `width` bytes (1, 2 or 4) to a port.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(self, port: u16, width: u8, value: u32) -> Result<(), Error> {
        let arguments = [self.word(), u64::from(port), u64::from(width), u64::from(value)];
        syscall(Syscall::PortWrite, arguments).map(drop)
    }

    /// Derives a capability to the ports from `first` to `last`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], also for ports that no domain may have.
    pub fn range(self, first: u16, last: u16) -> Result<Owned<Self>, Error> {
        let arguments = [self.word(), u64::from(first), u64::from(last)];
        Ok(Owned::from_word(syscall(Syscall::PortRange, arguments)?.words[0]))
    }
}

impl IrqLine {
    /// Derives a capability to one line of all.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Busy`] if another holds it.
    pub fn line(self, line: u32) -> Result<Owned<Self>, Error> {
        Ok(Owned::from_word(syscall(Syscall::IrqLine, [self.word(), u64::from(line)])?.words[0]))
    }

    /// Signals `bits` at each interrupt; the line is then masked until [`ack`](Self::ack).
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn bind(self, notification: Notification, bits: u64) -> Result<(), Error> {
        syscall(Syscall::IrqBind, [self.word(), notification.word(), bits]).map(drop)
    }

    /// Lets the next interrupt come.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn ack(self) -> Result<(), Error> {
        syscall(Syscall::IrqAck, [self.word()]).map(drop)
    }
}
