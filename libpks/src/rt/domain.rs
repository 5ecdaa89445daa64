//! Domains: made from boot modules, given capabilities, started and stopped.
#![forbid(unsafe_code)]

use super::gate::{syscall, syscall_with};
use super::handle::{Capability, Owned, capabilities};
use super::notification::Notification;
use super::system::{BootModule, Quota};
use super::{buffer, envelope};
use crate::abi::fault::FaultReport;
use crate::abi::inspect::DomainState;
use crate::abi::layout::IPC_BUFFER_BYTES;
use crate::abi::start::StartInfo;
use crate::abi::{Error, PLACE_ALONE, PLACE_ANYWHERE, PLACE_EMPTY, PLACE_HERE, Syscall};
use crate::budget::Budget;
use crate::cap::{CapRights, Handle, ObjectKind};
use alloc::boxed::Box;
use alloc::vec;

capabilities! {
    /// A domain.
    Domain, Some(ObjectKind::Domain);
}

/// What a domain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its image.
    pub image: BootModule,
    /// Where its memory is taken from.
    pub quota: Quota,
    /// How much of that.
    pub quota_bytes: u64,
    /// Its priority.
    pub priority: u8,
    /// How much CPU time it may use at that priority; taken from the quota too.
    pub budget: Budget,
    /// How long a call that it serves may go on beyond the budget of who pays for it, in nanoseconds of CPU time.
    pub overrun_ns: u64,
    /// In which view.
    pub placement: Placement,
}

/// In which view a domain is. Calls inside a view are cheaper; its domains have its hardware keys between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In the caller's, if there is room, else wherever there is.
    #[default]
    Anywhere,
    /// In the caller's, and in no other: [`Error::KeysExhausted`] if it has no room.
    Here,
    /// In that of another domain, likewise.
    Beside(Domain),
    /// In one of its own, with nobody beside it.
    Alone,
    /// In one in which nobody is yet; others may come.
    Empty,
}

/// How a domain is.
#[derive(Clone, Debug)]
pub struct DomainStatus {
    /// Its state.
    pub state: DomainState,
    /// The fault that ended it.
    pub fault: Option<Box<FaultReport>>,
}

impl Domain {
    /// Makes a domain, which holds nothing and does not run.
    ///
    /// # Errors
    /// [`Error::BadImage`], [`Error::AbiMismatch`], [`Error::LimitReached`], [`Error::KeysExhausted`],
    /// [`Error::QuotaExceeded`], [`Error::CpuExceeded`], [`Error::OutOfMemory`], [`Error::InvalidArgument`].
    pub fn create(plan: &Plan<'_>) -> Result<Owned<Self>, Error> {
        let Plan { image, quota, quota_bytes, priority, budget, overrun_ns, placement, .. } = *plan;
        let (time, period) = (budget.ns(), budget.every_ns());
        let place = match placement {
            Placement::Anywhere => PLACE_ANYWHERE,
            Placement::Here => PLACE_HERE,
            Placement::Alone => PLACE_ALONE,
            Placement::Empty => PLACE_EMPTY,
            Placement::Beside(domain) => domain.word(),
        };
        let priority = u64::from(priority);
        let arguments = [image.word(), quota.word(), quota_bytes, priority, time, period, overrun_ns, place];
        let answer = syscall_with(Syscall::DomainCreate, arguments, plan.name.as_bytes())?;
        Ok(Owned::from_word(answer.words[0]))
    }

    /// Gives a derived capability to a domain that has not started, and tells its handle there.
    ///
    /// # Errors
    /// [`Error::WrongState`], [`Error::RightsExceeded`], [`Error::AlreadyBadged`], [`Error::QuotaExceeded`].
    pub fn grant(self, capability: impl Capability, rights: CapRights, badge: u64) -> Result<Handle, Error> {
        let arguments = [self.word(), capability.handle().raw(), u64::from(rights.bits()), badge];
        Ok(Handle::from_raw(syscall(Syscall::DomainGrant, arguments)?.words[0]))
    }

    /// Starts it, with `stack_bytes` of stack for its first thread.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if `info` does not fit into an IPC buffer, [`Error::WrongState`],
    /// [`Error::QuotaExceeded`].
    pub fn start(self, stack_bytes: u64, info: &StartInfo) -> Result<(), Error> {
        let mut bytes = vec![0; IPC_BUFFER_BYTES];
        let length = envelope::to_bytes(info, &mut bytes)?;
        let bytes = bytes.get(..length).ok_or(Error::TooLarge)?;
        syscall_with(Syscall::DomainStart, [self.word(), stack_bytes], bytes).map(drop)
    }

    /// Stops it for good.
    ///
    /// # Errors
    /// Those of [`Capability`].
    pub fn stop(self) -> Result<(), Error> {
        syscall(Syscall::DomainStop, [self.word()]).map(drop)
    }

    /// Signals `bits` when it ends, however it does.
    ///
    /// # Errors
    /// Those of [`Capability`].
    pub fn on_end(self, notification: Notification, bits: u64) -> Result<(), Error> {
        syscall(Syscall::DomainOnEnd, [self.word(), notification.word(), bits]).map(drop)
    }

    /// How it is, and why it ended if it faulted.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an answer that this version cannot read, and those of [`Capability`].
    pub fn status(self) -> Result<DomainStatus, Error> {
        let answer = syscall(Syscall::DomainStatus, [self.word()])?;
        let state = DomainState::from_number(answer.words[0]).ok_or(Error::Malformed)?;
        let mut bytes = vec![0; answer.bytes()];
        buffer::take(&mut bytes);
        let fault = if bytes.is_empty() { None } else { Some(envelope::from_bytes(&bytes)?) };
        Ok(DomainStatus { state, fault })
    }
}
