//! The kernel's own operations: what `libpks::abi::syscall` promises. Each file serves one group.
//!
//! An operation gets the words of the message and gives an [`Answer`]. All of its handles are looked up in the space
//! of the domain in which the thread is, before anything is changed.

mod cap;
mod device;
mod domain;
mod inspect;
mod ipc;
mod region;
mod thread;

use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use libpks::abi::message::Info;
use libpks::abi::{Error, Syscall, layout};
use libpks::cap::Owner;

/// What an operation leads to.
pub(crate) enum Answer {
    /// Words for the caller.
    Words([u64; 8]),
    /// Words, and so many bytes in its IPC buffer.
    Buffer([u64; 8], usize),
    /// Nothing now: the thread waits, or is no more.
    Later,
}

impl Answer {
    /// No words.
    pub(crate) const NOTHING: Answer = Answer::Words([0; 8]);

    /// One word.
    pub(crate) const fn one(word: u64) -> Answer {
        Answer::Words([word, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Two words.
    pub(crate) const fn two(first: u64, second: u64) -> Answer {
        Answer::Words([first, second, 0, 0, 0, 0, 0, 0])
    }
}

/// What an operation answers, or why it does not.
type Outcome = Result<Answer, Error>;

/// Who asks, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) thread: Ref<Thread>,
    /// Where the thread is.
    pub(crate) domain: Ref<Domain>,
    pub(crate) words: [u64; 8],
    /// Bytes in the IPC buffer.
    pub(crate) bytes: usize,
    /// Nanoseconds since boot, 0 for none.
    pub(crate) deadline: u64,
}

impl Request {
    /// Whose handles the words are.
    pub(crate) fn owner(&self) -> Owner {
        Owner(self.domain.number())
    }
}

impl Kernel {
    /// A thread has come through the system call gate.
    pub(crate) fn syscall(&mut self, thread: Ref<Thread>) {
        let record = self.threads[thread].record;
        let info = Info::from_raw(record.r11);
        let outcome = match Syscall::from_number(record.r15) {
            _ if !info.is_valid() || info.capabilities() > 0 => Err(Error::BadMessage),
            None => Err(Error::NoSuchSyscall),
            Some(syscall) => {
                let domain = self.seat(thread).domain;
                let request = Request {
                    thread,
                    domain,
                    words: record.words(),
                    bytes: info.bytes(),
                    deadline: record.rbx,
                };
                self.operate(syscall, &request)
            }
        };
        match outcome {
            Ok(Answer::Later) => {}
            Ok(Answer::Words(words)) => self.answer(thread, Ok(words)),
            Ok(Answer::Buffer(words, bytes)) => {
                self.answer(thread, Ok(words));
                self.threads[thread].record.r11 = Info::new(bytes).unwrap_or_default().raw();
            }
            Err(error) => self.answer(thread, Err(error)),
        }
    }

    fn operate(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        use Syscall as S;
        match syscall {
            S::Yield | S::Sleep | S::Exit | S::Abort | S::Clock => self.operate_self(syscall, request),
            S::ThreadCreate
            | S::ThreadJoin
            | S::ThreadKill
            | S::ThreadBind
            | S::ThreadSelf
            | S::ThreadOnFault
            | S::ThreadFault
            | S::ThreadSetRights
            | S::ThreadResume => self.operate_thread(syscall, request),
            S::CapMint | S::CapDelete | S::CapRevoke | S::CapIdentify => self.operate_cap(syscall, request),
            S::EndpointCreate | S::EndpointServe | S::NotificationCreate | S::Signal | S::Wait | S::Poll => {
                self.operate_ipc(syscall, request)
            }
            S::RegionCreate
            | S::RegionInfo
            | S::RegionOpen
            | S::RegionClose
            | S::RegionOpenGlobal
            | S::RegionRekey
            | S::HeapGrow
            | S::KeyAllocate => self.operate_region(syscall, request),
            S::DomainCreate
            | S::DomainGrant
            | S::DomainStart
            | S::DomainStop
            | S::DomainOnEnd
            | S::DomainStatus
            | S::ModuleInfo
            | S::ModuleRead => self.operate_domain(syscall, request),
            S::PortRead | S::PortWrite | S::PortRange | S::IrqLine | S::IrqBind | S::IrqAck | S::Power => {
                self.operate_device(syscall, request)
            }
            S::LogWrite | S::LogRead | S::LogSubscribe | S::Inspect | S::SelfTest => {
                self.operate_inspect(syscall, request)
            }
        }
    }

    /// The bytes that a request brought in the IPC buffer.
    pub(crate) fn request_bytes<'b>(
        &self,
        request: &Request,
        room: &'b mut [u8; layout::IPC_BUFFER_BYTES],
    ) -> &'b [u8] {
        let bytes = &mut room[..request.bytes];
        self.read_buffer(self.seat(request.thread), bytes);
        bytes
    }

    /// The text that a request brought, cut to whole characters.
    ///
    /// # Errors
    /// `Malformed` if it is no UTF-8.
    pub(crate) fn request_text<'b>(
        &self,
        request: &Request,
        room: &'b mut [u8; layout::IPC_BUFFER_BYTES],
    ) -> Result<&'b str, Error> {
        core::str::from_utf8(self.request_bytes(request, room)).map_err(|_| Error::Malformed)
    }

    /// Answers with something that postcard encodes.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(crate) fn encoded<T: serde::Serialize>(
        &self,
        thread: Ref<Thread>,
        words: [u64; 8],
        value: &T,
    ) -> Outcome {
        let mut room = [0; layout::IPC_BUFFER_BYTES];
        let bytes = libpks::wire::encode(value, &mut room).map_err(|_| Error::TooLarge)?;
        self.write_buffer(self.seat(thread), &room[..bytes]);
        Ok(Answer::Buffer(words, bytes))
    }
}

/// An operation came to the wrong group: the table in `operate` and the group's own disagree.
fn misrouted() -> Outcome {
    debug_assert!(false, "operation in the wrong group");
    Err(Error::NoSuchSyscall)
}
