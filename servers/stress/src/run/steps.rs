//! Steps that are one operation.

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::cap::CapRights;
use libpks::model::{Access, Give, Says, Step};
use libpks::rt::Capability;

use super::Stage;
use crate::agent::offer;
use crate::crew::KERNEL_WORD;
use crate::errand::{Answer, Command, Sent};

impl Stage {
    /// Carries out a step that is one operation.
    pub(super) fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        match *step {
            Step::Spawn { domain } => {
                let Answer::Thread { handle } =
                    self.crew.run(domain, &Command::Spawn(self.threads.len() as u32))?
                else {
                    return Err(Error::Malformed);
                };
                self.threads.push(self.tools.thread(self.domains[domain].0, handle)?);
                Ok(())
            }
            Step::Kill { thread } => self.tell(self.home(thread), &Command::Kill(thread as u32)),
            Step::Migrate { thread, cpu } => {
                self.tell(self.home(thread), &Command::Bind(thread as u32, cpu % self.cpus))
            }
            Step::Create { domain, pages, key } => {
                let key = key.map_or(0, |key| self.key_handle(key));
                let Answer::Made { handle, address } =
                    self.crew.run(domain, &Command::Create { bytes: pages * PAGE, key })?
                else {
                    return Err(Error::Malformed);
                };
                self.caps.push(handle);
                self.regions.push(address);
                Ok(())
            }
            Step::TakeKey => {
                let (key, number) = self.tools.keys.allocate()?;
                self.keys.push((Some(key), number));
                Ok(())
            }
            Step::DropKey { key } => {
                let key = self.keys[key].0.take().ok_or(Error::NoSuchCapability)?;
                key.keep().delete()
            }
            Step::Rekey { cap, key } => {
                let command = Command::Rekey(self.caps[cap], self.key_handle(key));
                self.tell(self.holder(cap), &command)
            }
            Step::Open { thread, cap, access } => {
                let command =
                    Command::Open { thread: thread as u32, handle: self.caps[cap], access: number(access) };
                self.tell(self.home(thread), &command)
            }
            Step::Close { thread, nth } => {
                self.tell(self.home(thread), &Command::Close(thread as u32, nth as u32))
            }
            Step::Global { cap, access } => {
                self.tell(self.holder(cap), &Command::Global(self.caps[cap], number(access)))
            }
            Step::Mint { cap, says } => {
                let Answer::Handle(handle) =
                    self.crew.run(self.holder(cap), &Command::Mint(self.caps[cap], rights(says)))?
                else {
                    return Err(Error::Malformed);
                };
                self.caps.push(handle);
                Ok(())
            }
            Step::Delete { cap } => self.tell(self.holder(cap), &Command::Delete(self.caps[cap])),
            Step::Revoke { cap } => self.tell(self.holder(cap), &Command::Revoke(self.caps[cap])),
            Step::Give { cap, to, how } => self.give(cap, to, how),
            Step::Restart { domain } => {
                self.crew.workers[domain - 1].restart()?;
                self.look_up(domain)
            }
            Step::Nmi { cpu } => match self.tools.nmi(cpu % self.cpus)? {
                [KERNEL_WORD, KERNEL_WORD] => Ok(()),
                _ => Err(Error::Malformed),
            },
            Step::Lend { .. } | Step::Touch { .. } => Err(Error::InvalidArgument),
        }
    }

    pub(super) fn tell(&mut self, domain: usize, command: &Command) -> Result<(), Error> {
        match self.crew.run(domain, command)? {
            Answer::Done => Ok(()),
            _ => Err(Error::Malformed),
        }
    }

    pub(super) fn home(&self, thread: usize) -> usize {
        self.model.threads[thread].domain
    }

    fn holder(&self, cap: usize) -> usize {
        self.model.caps[cap].domain
    }

    fn key_handle(&self, key: usize) -> u64 {
        self.keys[key].0.as_ref().map_or(0, |key| key.handle().raw())
    }

    /// Sends a capability to a worker, or has a worker send it here.
    fn give(&mut self, cap: usize, to: usize, how: Give) -> Result<(), Error> {
        let sent = match how {
            Give::Copy => Sent::Copied,
            Give::ReadOnly => Sent::ReadOnly,
            Give::Move => Sent::Moved,
        };
        let handle = if to == 0 {
            let worker = self.crew.worker(self.holder(cap))?;
            worker.exchange(&Command::Send(self.caps[cap], sent), &[])?.1.ok_or(Error::Malformed)?
        } else {
            match self.crew.worker(to)?.exchange(&Command::Take, &[offer(self.caps[cap], sent)])?.0 {
                Answer::Handle(handle) => handle,
                _ => return Err(Error::Malformed),
            }
        };
        match how {
            Give::Move => self.caps[cap] = handle,
            Give::Copy | Give::ReadOnly => self.caps.push(handle),
        }
        Ok(())
    }
}

/// Rights to memory as the kernel numbers them.
pub(super) const fn number(access: Access) -> u8 {
    match access {
        Access::Nothing => 0,
        Access::Read => 1,
        Access::Write => 2,
    }
}

fn rights(says: Says) -> u16 {
    let pairs = [
        (says.read, CapRights::READ),
        (says.write, CapRights::WRITE),
        (says.grant, CapRights::GRANT),
        (says.manage, CapRights::MANAGE),
    ];
    pairs.into_iter().filter(|(said, _)| *said).fold(0, |all, (_, right)| all | right.bits())
}
