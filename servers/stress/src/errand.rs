//! What a domain of the run can be asked to do: by a direct call in the domain that runs the steps, in a message
//! elsewhere. Threads are named by the model's numbers, capabilities by handles.

use libpks::abi::Error;
use libpks::abi::fault::{FaultAccess, FaultKind, FaultReport};
use libpks::proto::Protocol;
use serde::{Deserialize, Serialize};

/// Stands for the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand;

impl Protocol for Errand {
    const NAME: &'static str = "errand";
    type Request = Command;
    type Reply = Result<Answer, Error>;
}

/// How a capability is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Sent {
    /// A derived one.
    Copied,
    /// A derived one without the right to write.
    ReadOnly,
    /// Itself.
    Moved,
}

/// An errand. Rights to memory are numbers as the kernel has them: 0 none, 1 read, 2 write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Begin a thread: [`Answer::Thread`].
    Spawn(u32),
    /// Kill a thread.
    Kill(u32),
    /// Send a thread to a CPU.
    Bind(u32, u32),
    /// Make a region, under a key if the handle is not 0: [`Answer::Made`].
    Create {
        /// Bytes.
        bytes: u64,
        /// Handle of the key.
        key: u64,
    },
    /// Put a region (handle) under a key (handle).
    Rekey(u64, u64),
    /// A thread opens a region.
    Open {
        /// The thread.
        thread: u32,
        /// The capability.
        handle: u64,
        /// For what.
        access: u8,
    },
    /// A thread closes its opening with this place in the list.
    Close(u32, u32),
    /// All threads may do this with a region.
    Global(u64, u8),
    /// Derive a capability with these rights: [`Answer::Handle`].
    Mint(u64, u16),
    /// Delete a capability.
    Delete(u64),
    /// Take back what was derived from a capability.
    Revoke(u64),
    /// Take the capability that comes with this: [`Answer::Handle`].
    Take,
    /// Send a capability with the answer.
    Send(u64, Sent),
    /// Open what is lent with this, access it, and answer [`Answer::Borrowed`].
    Borrow(Borrowing),
    /// A thread reads the word at an address: [`Answer::Value`] or [`Answer::Fault`].
    Read(u32, u64),
    /// A thread writes the word at an address.
    Write(u32, u64, u64),
    /// A thread that stands at a fault gets rights by a capability and goes on: as [`Command::Read`].
    Mend {
        /// The thread.
        thread: u32,
        /// The capability.
        handle: u64,
        /// The rights.
        access: u8,
    },
}

/// What to do with a region that is lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Borrowing {
    /// For what it is opened.
    pub(crate) access: u8,
    /// For all threads.
    pub(crate) global: bool,
    /// Where it is.
    pub(crate) address: u64,
    /// What is written if it is opened for writing.
    pub(crate) value: u64,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// A thread began.
    Thread {
        /// Its handle.
        handle: u64,
    },
    /// A region was made.
    Made {
        /// Its handle.
        handle: u64,
        /// Its address.
        address: u64,
    },
    /// A capability.
    Handle(u64),
    /// What was read, or written.
    Value(u64),
    /// The thread stands at a fault.
    Fault(Seen),
    /// What came of the opening, and what the first word was.
    Borrowed(Result<u64, Error>),
}

/// What a fault report says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// What happened.
    pub(crate) kind: FaultKind,
    /// The access.
    pub(crate) access: FaultAccess,
    /// Where.
    pub(crate) address: u64,
    /// The error code.
    pub(crate) code: u32,
    /// The page's key.
    pub(crate) key: Option<u8>,
    /// The word on record.
    pub(crate) pkrs: u32,
    /// The word that the CPU had.
    pub(crate) live: u32,
    /// The blamed domain's number.
    pub(crate) domain: u32,
    /// The thread's number.
    pub(crate) thread: u32,
}

impl Seen {
    /// What is compared of a report.
    pub(crate) fn of(report: &FaultReport) -> Self {
        Self {
            kind: report.kind,
            access: report.access,
            address: report.address,
            code: report.error_code,
            key: report.key,
            pkrs: report.pkrs,
            live: report.pkrs_live,
            domain: report.domain,
            thread: report.thread,
        }
    }
}
