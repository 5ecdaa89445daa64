//! The kernel's own services: its log, its view of the system, boot modules, power, keys, and what tests may do.
#![forbid(unsafe_code)]

use super::gate::{syscall, syscall_with};
use super::handle::{Owned, capabilities};
use super::notification::Notification;
use super::{buffer, envelope};
use crate::abi::fault::FaultReport;
use crate::abi::inspect::{
    CapInfo, CpuInfo, DomainInfo, KeyInfo, Objects, PlaceInfo, PowerAction, Subject, SystemInfo, ThreadInfo,
};
use crate::abi::layout::IPC_BUFFER_BYTES;
use crate::abi::message::WORDS;
use crate::abi::selftest::SelfTestOp;
use crate::abi::{Error, Name, Syscall, name};
use crate::cap::ObjectKind;
use alloc::vec;
use alloc::vec::Vec;
use serde::de::DeserializeOwned;

capabilities! {
    /// The kernel's log.
    KernelLog, Some(ObjectKind::KernelLog);
    /// The kernel's view of the system.
    Inspect, Some(ObjectKind::Inspect);
    /// A module that the boot loader brought.
    BootModule, Some(ObjectKind::BootModule);
    /// Power off and reset.
    Power, Some(ObjectKind::Power);
    /// A budget of memory.
    Quota, Some(ObjectKind::MemoryQuota);
    /// The pool of hardware keys.
    KeyPool, Some(ObjectKind::KeyPool);
    /// A hardware key that was taken out of the pool, until its last capability goes.
    Key, Some(ObjectKind::Key);
    /// What only tests may do.
    SelfTest, Some(ObjectKind::SelfTest);
}

/// A piece of the kernel's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPiece {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next: u64,
    /// Where the log begins; what was before has been overwritten.
    pub first: u64,
}

impl KernelLog {
    /// Writes a line.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and those of [`Capability`](super::Capability).
    pub fn write(self, line: &str) -> Result<(), Error> {
        syscall_with(Syscall::LogWrite, [self.word()], line.as_bytes()).map(drop)
    }

    /// Reads from a position on; a position that was overwritten means the first that was not.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn read(self, position: u64) -> Result<LogPiece, Error> {
        let answer = syscall(Syscall::LogRead, [self.word(), position])?;
        let mut bytes = vec![0; answer.bytes().min(IPC_BUFFER_BYTES)];
        buffer::take(&mut bytes);
        Ok(LogPiece { bytes, next: answer.words[0], first: answer.words[1] })
    }

    /// Signals `bits` whenever the log grows, and tells from which position on the kernel leaves it to the subscriber to
    /// show the log.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn subscribe(self, notification: Notification, bits: u64) -> Result<u64, Error> {
        match syscall(Syscall::LogSubscribe, [self.word(), notification.word(), bits])?.words[0] {
            // A kernel that does not tell: from the end on. The log is never empty so early that 0 could be meant.
            0 => Ok(self.read(u64::MAX)?.next),
            position => Ok(position),
        }
    }
}

impl Inspect {
    /// The machine and the kernel.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an answer that this version cannot read, and those of
    /// [`Capability`](super::Capability).
    pub fn system(self) -> Result<SystemInfo, Error> {
        self.ask(Subject::System, 0, 0)?.ok_or(Error::NotFound)
    }

    /// How many of everything there is.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn objects(self) -> Result<Objects, Error> {
        self.ask(Subject::Objects, 0, 0)?.ok_or(Error::NotFound)
    }

    /// The domain with the least number that is `number` or more; `None` if there is none. So whoever goes on behind the
    /// last one misses nobody that is there all the while, also when others come and go.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn domain_from(self, number: u64) -> Result<Option<DomainInfo>, Error> {
        self.ask(Subject::Domain, number, 0)
    }

    /// All domains, by their numbers.
    ///
    /// # Errors
    /// Each item: as [`system`](Self::system).
    pub fn domains(self) -> impl Iterator<Item = Result<DomainInfo, Error>> {
        ascending(move |number| self.domain_from(number), |domain| domain.id)
    }

    /// All threads, by their numbers.
    ///
    /// # Errors
    /// Each item: as [`system`](Self::system).
    pub fn threads(self) -> impl Iterator<Item = Result<ThreadInfo, Error>> {
        ascending(move |number| self.ask(Subject::Thread, number, 0), |thread: &ThreadInfo| thread.id)
    }

    /// The hardware key with number `index` of a view; `None` past the last, or for a view that there is not. The others do
    /// likewise.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn key(self, view: u32, index: u64) -> Result<Option<KeyInfo>, Error> {
        self.ask(Subject::Key, index, u64::from(view))
    }

    /// Capability `index` of the domain with number `domain`.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn capability(self, domain: u32, index: u64) -> Result<Option<CapInfo>, Error> {
        self.ask(Subject::Capability, u64::from(domain), index)
    }

    /// The fault report at position `index`, the newest first.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn fault(self, index: u64) -> Result<Option<FaultReport>, Error> {
        self.ask(Subject::Fault, index, 0)
    }

    /// The CPU at position `index`.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn cpu(self, index: u64) -> Result<Option<CpuInfo>, Error> {
        self.ask(Subject::Cpu, index, 0)
    }

    /// The place of the kernel's at position `index`.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub fn place(self, index: u64) -> Result<Option<PlaceInfo>, Error> {
        self.ask(Subject::Place, index, 0)
    }

    fn ask<T: DeserializeOwned>(
        self,
        subject: Subject,
        index: u64,
        sub_index: u64,
    ) -> Result<Option<T>, Error> {
        match syscall(Syscall::Inspect, [self.word(), subject as u64, index, sub_index]) {
            Ok(answer) => {
                let mut bytes = vec![0; answer.bytes()];
                buffer::take(&mut bytes);
                envelope::from_bytes(&bytes).map(Some)
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What `from_fn` finds from 0 on, and from behind the number of each. It ends with the first error.
fn ascending<T>(
    from_fn: impl Fn(u64) -> Result<Option<T>, Error>,
    number_fn: impl Fn(&T) -> u32,
) -> impl Iterator<Item = Result<T, Error>> {
    let mut next = Some(0);
    core::iter::from_fn(move || {
        let found = from_fn(next.take()?).transpose()?;
        next = found.as_ref().ok().map(|item| u64::from(number_fn(item)) + 1);
        Some(found)
    })
}

impl BootModule {
    /// Its name and its length in bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a name that is no text, and those of [`Capability`](super::Capability).
    pub fn info(self) -> Result<(Name, u64), Error> {
        let answer = syscall(Syscall::ModuleInfo, [self.word()])?;
        let mut bytes = vec![0; answer.bytes()];
        buffer::take(&mut bytes);
        Ok((name(core::str::from_utf8(&bytes).map_err(|_| Error::Malformed)?), answer.words[0]))
    }

    /// All its bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it is longer than `limit` bytes, and those of [`Capability`](super::Capability).
    pub fn read_all(self, limit: usize) -> Result<Vec<u8>, Error> {
        let (_, bytes) = self.info()?;
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= limit).ok_or(Error::TooLarge)?;
        let mut content = vec![0; bytes];
        for (n, chunk) in content.chunks_mut(IPC_BUFFER_BYTES).enumerate() {
            let offset = (n * IPC_BUFFER_BYTES) as u64;
            let answer = syscall(Syscall::ModuleRead, [self.word(), offset, chunk.len() as u64])?;
            if answer.bytes() != chunk.len() {
                return Err(Error::Malformed);
            }
            buffer::take(chunk);
        }
        Ok(content)
    }
}

impl Power {
    /// Turns the machine off or starts it again. It comes back only with an error.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the machine does not say how.
    pub fn act(self, action: PowerAction) -> Result<(), Error> {
        syscall(Syscall::Power, [self.word(), action as u64]).map(drop)
    }
}

impl KeyPool {
    /// Takes a key out of the pool; tells its number too. Where the CPU has none that number is one in the kernel's books,
    /// with the same rights and faults.
    ///
    /// # Errors
    /// [`Error::KeysExhausted`].
    pub fn allocate(self) -> Result<(Owned<Key>, u8), Error> {
        self.take(0)
    }

    /// The same, but a key of the CPU in particular.
    ///
    /// # Errors
    /// [`Error::KeysExhausted`], [`Error::KeysUnsupported`] where none are in use.
    pub fn allocate_hardware(self) -> Result<(Owned<Key>, u8), Error> {
        self.take(1)
    }

    fn take(self, hardware: u64) -> Result<(Owned<Key>, u8), Error> {
        let [key, number, ..] = syscall(Syscall::KeyAllocate, [self.word(), hardware])?.words;
        Ok((Owned::from_word(key), number as u8))
    }
}

impl SelfTest {
    /// Does one of the operations of [`SelfTestOp`], with its arguments (words 2 to 6), and gives its results.
    ///
    /// # Errors
    /// What the operation says.
    pub fn run(self, operation: SelfTestOp, arguments: [u64; 5]) -> Result<[u64; WORDS], Error> {
        let [a, b, c, d, e] = arguments;
        Ok(syscall(Syscall::SelfTest, [self.word(), operation as u64, a, b, c, d, e])?.words)
    }

    /// Audits all mappings. Gives how many pages were looked at, and how many rules are broken; the log names the first ones.
    ///
    /// # Errors
    /// Those of [`SelfTest::run`].
    pub fn audit(self) -> Result<(u64, u64), Error> {
        let [pages, broken, ..] = self.run(SelfTestOp::Audit, [0; 5])?;
        Ok((pages, broken))
    }
}
