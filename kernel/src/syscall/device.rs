//! Operations on ports, interrupt lines and the machine's power.

use super::{Answer, Outcome, Request, misrouted};
use crate::arch::power;
use crate::device::{ALL_LINES, PortRange};
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::inspect::PowerAction;
use libpks::abi::{Error, Syscall};
use libpks::cap::{CapRights, ObjectId, ObjectKind};

/// A line that can be used. The one for all lines is there to be divided.
fn single(line: u32) -> Result<u32, Error> {
    if line == ALL_LINES { Err(Error::InvalidArgument) } else { Ok(line) }
}

impl Kernel {
    pub(super) fn operate_device(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [handle, first, second, third, ..] = request.words;
        let owner = request.owner();
        let ports =
            |kernel: &Kernel, rights| kernel.object::<PortRange>(owner, handle, ObjectKind::IoPorts, rights);
        let line = |kernel: &Kernel, rights| {
            kernel
                .require(owner, handle, ObjectKind::IrqLine, rights)
                .map(|capability| capability.object.index)
        };
        match syscall {
            Syscall::PortRead => {
                let range = ports(self, CapRights::READ)?;
                self.ports[range].read(first, second).map(Answer::one)
            }
            Syscall::PortWrite => {
                let range = ports(self, CapRights::WRITE)?;
                self.ports[range].write(first, second, third).map(|()| Answer::NOTHING)
            }
            Syscall::PortRange => {
                let range = ports(self, CapRights::GRANT)?;
                let part = self.ports[range].part(first, second, self.soft_off)?;
                let part: Ref<PortRange> = self.ports.insert(part)?;
                let rights = CapRights::READ | CapRights::WRITE | CapRights::GRANT;
                let handle = self.give_part(owner, handle, part.object(ObjectKind::IoPorts), rights)?;
                Ok(Answer::one(handle.raw()))
            }
            Syscall::IrqLine => {
                if line(self, CapRights::GRANT)? != ALL_LINES {
                    return Err(Error::InvalidArgument);
                }
                let index = self.take_line(first)?;
                let object = ObjectId { kind: ObjectKind::IrqLine, index, generation: 1 };
                let rights = CapRights::SERVE | CapRights::MANAGE | CapRights::GRANT;
                let handle = self.give_part(owner, handle, object, rights)?;
                Ok(Answer::one(handle.raw()))
            }
            Syscall::IrqBind => {
                let line = single(line(self, CapRights::MANAGE)?)?;
                let signal = self.signal_for(request, first, second)?;
                self.bind_line(line, request.domain, signal);
                Ok(Answer::NOTHING)
            }
            Syscall::IrqAck => {
                let line = single(line(self, CapRights::MANAGE)?)?;
                self.acknowledge_line(line);
                Ok(Answer::NOTHING)
            }
            Syscall::Power => self.power(request),
            _ => misrouted(),
        }
    }

    /// Returns only if the machine does not do it.
    fn power(&mut self, request: &Request) -> Outcome {
        let [handle, action, ..] = request.words;
        self.require(request.owner(), handle, ObjectKind::Power, CapRights::MANAGE)?;
        if action == PowerAction::Off as u64 {
            let soft_off = self.soft_off.ok_or(Error::Unsupported)?;
            power::off(soft_off);
        } else if action == PowerAction::Reboot as u64 {
            power::reboot();
        } else {
            return Err(Error::InvalidArgument);
        }
        Err(Error::Unsupported)
    }
}
