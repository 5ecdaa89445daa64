//! Operations on endpoints and notifications.

use super::{Answer, Outcome, Request, misrouted};
use crate::ipc::{Endpoint, Notification, ServeRequest, Signal};
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::{Error, Syscall};
use libpks::cap::{CapRights, Handle, ObjectKind};

impl Kernel {
    pub(super) fn operate_ipc(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [handle, second, cookie, activations, stack_bytes, ..] = request.words;
        let owner = request.owner();
        match syscall {
            Syscall::EndpointCreate => {
                self.create_endpoint(request.thread).map(|handle| Answer::one(handle.raw()))
            }
            Syscall::EndpointServe => {
                let at: Ref<Endpoint> = self.object(owner, handle, ObjectKind::Endpoint, CapRights::SERVE)?;
                let serve = ServeRequest { entry: second, cookie, activations, stack_bytes };
                self.serve(request.domain, at, serve).map(|()| Answer::NOTHING)
            }
            Syscall::NotificationCreate => {
                self.create_notification(request.thread).map(|handle| Answer::one(handle.raw()))
            }
            Syscall::Signal => {
                let signal = self.signal_for(request, handle, second)?;
                self.signal(signal);
                Ok(Answer::NOTHING)
            }
            Syscall::Wait => {
                let at =
                    self.object::<Notification>(owner, handle, ObjectKind::Notification, CapRights::WAIT)?;
                Ok(self.wait(request.thread, at, request.deadline).map_or(Answer::Later, Answer::one))
            }
            Syscall::Poll => {
                let at =
                    self.object::<Notification>(owner, handle, ObjectKind::Notification, CapRights::WAIT)?;
                self.take_bits(at).map(Answer::one).ok_or(Error::WouldBlock)
            }
            _ => misrouted(),
        }
    }

    /// Bits to set in the notification that a handle names, masked by its badge if it has one.
    ///
    /// # Errors
    /// As [`Kernel::require`].
    pub(super) fn signal_for(&self, request: &Request, handle: u64, bits: u64) -> Result<Signal, Error> {
        let capability =
            self.require(request.owner(), handle, ObjectKind::Notification, CapRights::SIGNAL)?;
        let bits = if capability.badge == 0 { bits } else { bits & capability.badge };
        let (owner, through) = (request.owner(), Handle::from_raw(handle));
        Ok(Signal { notification: Ref::of(capability.object), bits, owner, through })
    }
}
