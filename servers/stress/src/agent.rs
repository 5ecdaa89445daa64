//! Carries out errands in one domain.

use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::cap::{CapRights, Handle};
use libpks::rt::region::Access;
use libpks::rt::{AnyCap, Capability, Key, Offer, Owned, Region};

use crate::errand::{Answer, Borrowing, Command, Sent};
use crate::subject::{Order, Subject, region};

/// The threads of a domain that the run knows.
pub(crate) struct Agent {
    priority: u8,
    subjects: Vec<(u32, Subject)>,
}

impl Agent {
    pub(crate) const fn new(priority: u8) -> Self {
        Self { priority, subjects: Vec::new() }
    }

    /// Carries out what needs no message.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Answer, Error> {
        match *command {
            Command::Spawn(thread) => {
                let subject = Subject::start(self.priority)?;
                let handle = subject.thread().handle().raw();
                self.subjects.push((thread, subject));
                Ok(Answer::Thread { handle })
            }
            Command::Kill(thread) => {
                let place = self.place(thread)?;
                self.subjects.remove(place).1.thread().kill().map(|()| Answer::Done)
            }
            Command::Bind(thread, cpu) => {
                self.subject(thread)?.thread().bind(Some(cpu)).map(|()| Answer::Done)
            }
            Command::Create { bytes, key } => {
                let key = (key != 0).then(|| Key::from_handle(Handle::from_raw(key)));
                let made = Region::create(bytes, key)?.keep();
                Ok(Answer::Made { handle: made.handle().raw(), address: made.info()?.address })
            }
            Command::Rekey(handle, key) => {
                region(handle).rekey(Key::from_handle(Handle::from_raw(key))).map(|()| Answer::Done)
            }
            Command::Open { thread, handle, access } => {
                self.subject(thread)?.run(Order::Open(region(handle), access == 2))
            }
            Command::Close(thread, nth) => {
                self.subject(thread)?.run(Order::Close(usize::try_from(nth).unwrap_or(usize::MAX)))
            }
            Command::Global(handle, rights) => {
                region(handle).open_global(access(rights)).map(|()| Answer::Done)
            }
            Command::Mint(handle, rights) => {
                let rights = CapRights::from_bits(rights).ok_or(Error::InvalidArgument)?;
                let minted = region(handle).mint(rights, 0)?.keep();
                Ok(Answer::Handle(minted.handle().raw()))
            }
            Command::Delete(handle) => region(handle).delete().map(|()| Answer::Done),
            Command::Revoke(handle) => region(handle).revoke().map(|()| Answer::Done),
            Command::Read(thread, address) => self.subject(thread)?.run(Order::Read(address)),
            Command::Write(thread, address, value) => self.subject(thread)?.run(Order::Write(address, value)),
            Command::Mend { thread, handle, access: rights } => {
                let subject = self.subject(thread)?;
                subject.thread().set_rights(region(handle), access(rights))?;
                subject.thread().resume()?;
                subject.outcome()
            }
            Command::Take | Command::Send(..) | Command::Borrow(_) => Err(Error::InvalidArgument),
        }
    }

    /// Uses a region that was lent for this call.
    pub(crate) fn borrow(lent: Owned<AnyCap>, how: Borrowing) -> Result<Answer, Error> {
        let region = lent.into_kind::<Region>()?;
        // It goes with the call; whoever lent it wants to see that.
        let region = region.keep();
        let used = || {
            if how.global {
                region.open_global(access(how.access))?;
                let open = libpks::rt::unguarded::Unguarded::in_regions(how.address, 8)?;
                let found = open.read_u64(0)?;
                if how.access == 2 {
                    open.write_u64(0, how.value)?;
                }
                return Ok(found);
            }
            if how.access == 2 {
                let guard = region.open_write()?;
                let found = guard.read_u64(0)?;
                guard.write_u64(0, how.value)?;
                return Ok(found);
            }
            region.open_read()?.read_u64(0)
        };
        Ok(Answer::Borrowed(used()))
    }

    fn place(&self, thread: u32) -> Result<usize, Error> {
        self.subjects.iter().position(|(known, _)| *known == thread).ok_or(Error::NotFound)
    }

    fn subject(&self, thread: u32) -> Result<&Subject, Error> {
        let place = self.place(thread)?;
        self.subjects.get(place).map(|(_, subject)| subject).ok_or(Error::NotFound)
    }
}

/// A capability as it goes with a message.
pub(crate) fn offer(handle: u64, sent: Sent) -> Offer {
    let capability = region(handle);
    match sent {
        Sent::Copied => Offer::copy(capability),
        Sent::ReadOnly => Offer::copy(capability).read_only(),
        Sent::Moved => Offer::hand_over(Owned::new(capability)),
    }
}

const fn access(rights: u8) -> Access {
    match rights {
        0 => Access::None,
        1 => Access::ReadOnly,
        _ => Access::ReadWrite,
    }
}
