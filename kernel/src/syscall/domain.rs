//! Operations on domains and boot modules.

use super::{Answer, Outcome, Request, misrouted};
use crate::domain::{Domain, DomainRequest, Quota};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::ThreadRequest;
use crate::view::Placement;
use libpks::abi::inspect::DomainState;
use libpks::abi::{Error, PLACE_ALONE, PLACE_ANYWHERE, PLACE_EMPTY, PLACE_HERE, Syscall, layout};
use libpks::budget::{Budget, OVERRUN_LEAST_NS, OVERRUN_LONGEST_NS};
use libpks::cap::{CapRights, ObjectKind, Owner};

impl Kernel {
    pub(super) fn operate_domain(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [first, second, third, fourth, ..] = request.words;
        let owner = request.owner();
        let named =
            |kernel: &Kernel, rights| kernel.object::<Domain>(owner, first, ObjectKind::Domain, rights);
        match syscall {
            Syscall::DomainCreate => self.make_domain(request),
            Syscall::DomainGrant => {
                let domain = named(self, CapRights::MANAGE)?;
                if self.domains[domain].state != DomainState::Created {
                    return Err(Error::WrongState);
                }
                let rights = super::cap::cap_rights(third)?;
                let granted = self.mint(owner, second, Owner(domain.number()), rights, fourth)?;
                Ok(Answer::one(granted.raw()))
            }
            Syscall::DomainStart => self.start_domain(request, named(self, CapRights::MANAGE)?),
            Syscall::DomainStop => {
                let domain = named(self, CapRights::MANAGE)?;
                self.doom(domain, DomainState::Stopped);
                Ok(Answer::NOTHING)
            }
            Syscall::DomainOnEnd => {
                let domain = named(self, CapRights::MANAGE)?;
                let signal = self.signal_for(request, second, third)?;
                self.domains[domain].on_end = Some(signal);
                // One that has ended already says so at once.
                if !self.domains[domain].is_alive() {
                    self.domains[domain].on_end = None;
                    self.signal(signal);
                }
                Ok(Answer::NOTHING)
            }
            Syscall::DomainStatus => {
                let domain = named(self, CapRights::READ)?;
                let state = self.domains[domain].state as u64;
                match self.domains[domain].fault.and_then(|number| self.faults.get(number)) {
                    Some(report) => self.encoded(request.thread, [state, 1, 0, 0, 0, 0, 0, 0], report),
                    None => Ok(Answer::one(state)),
                }
            }
            Syscall::ModuleInfo => {
                let module = self.module_for(request)?;
                let name = self.boot.modules[module].name.clone();
                let bytes = self.module_bytes(module)?.len() as u64;
                self.write_buffer(self.seat(request.thread), name.as_bytes());
                Ok(Answer::Buffer([bytes, 0, 0, 0, 0, 0, 0, 0], name.len()))
            }
            Syscall::ModuleRead => {
                let file = self.module_bytes(self.module_for(request)?)?;
                let offset = usize::try_from(second).map_err(|_| Error::InvalidArgument)?;
                let rest = file.get(offset..).ok_or(Error::InvalidArgument)?;
                let wanted = usize::try_from(third).unwrap_or(usize::MAX);
                let part = &rest[..rest.len().min(wanted).min(layout::IPC_BUFFER_BYTES)];
                self.write_buffer(self.seat(request.thread), part);
                Ok(Answer::Buffer([part.len() as u64, 0, 0, 0, 0, 0, 0, 0], part.len()))
            }
            _ => misrouted(),
        }
    }

    fn module_for(&self, request: &Request) -> Result<usize, Error> {
        let handle = request.words[0];
        let capability = self.require(request.owner(), handle, ObjectKind::BootModule, CapRights::READ)?;
        Ok(capability.object.index as usize)
    }

    fn make_domain(&mut self, request: &Request) -> Outcome {
        let [_, quota, bytes, priority, budget_ns, every_ns, overrun_ns, placement] = request.words;
        let module = self.module_for(request)?;
        let quota =
            self.object::<Quota>(request.owner(), quota, ObjectKind::MemoryQuota, CapRights::MANAGE)?;
        // Nobody makes a domain that is more urgent than its own.
        let priority = u8::try_from(priority).map_err(|_| Error::InvalidArgument)?;
        if priority > self.domains[request.domain].priority {
            return Err(Error::InvalidArgument);
        }
        let budget = Budget::new(budget_ns, every_ns).map_err(|_| Error::InvalidArgument)?;
        if !(OVERRUN_LEAST_NS..=OVERRUN_LONGEST_NS).contains(&overrun_ns) {
            return Err(Error::InvalidArgument);
        }
        let mut room = [0; layout::IPC_BUFFER_BYTES];
        let name = libpks::abi::name(self.request_text(request, &mut room)?);
        if name.contains(char::is_control) {
            return Err(Error::InvalidArgument);
        }
        let placement = match placement {
            PLACE_ANYWHERE => Placement::Anywhere,
            PLACE_HERE => Placement::Beside(request.domain),
            PLACE_ALONE => Placement::Alone,
            PLACE_EMPTY => Placement::Empty,
            beside => {
                let rights = CapRights::READ;
                Placement::Beside(self.object(request.owner(), beside, ObjectKind::Domain, rights)?)
            }
        };
        let made = DomainRequest { name: &name, quota, bytes, priority, budget, overrun_ns, placement };
        let domain = self.create_domain(Some(request.domain), module, &made)?;
        self.domains[domain].refs = 1;
        let rights = CapRights::READ | CapRights::GRANT | CapRights::MANAGE;
        let handle = self.give_root(request.owner(), domain.object(ObjectKind::Domain), rights)?;
        Ok(Answer::one(handle.raw()))
    }

    /// The first thread finds what the starter had in its buffer in its own.
    fn start_domain(&mut self, request: &Request, domain: Ref<Domain>) -> Outcome {
        if self.domains[domain].state != DomainState::Created {
            return Err(Error::WrongState);
        }
        let books = &self.domains[domain];
        let (entry, priority) = (books.entry, books.priority);
        let start =
            ThreadRequest { entry, argument: request.bytes as u64, stack_bytes: request.words[1], priority };
        let thread = self.create_thread(domain, start)?;
        let mut room = [0; layout::IPC_BUFFER_BYTES];
        let bytes = self.request_bytes(request, &mut room);
        self.write_buffer(&self.threads[thread].home, bytes);
        self.domains[domain].state = DomainState::Running;
        self.make_ready(thread);
        Ok(Answer::NOTHING)
    }
}
