//! With which errors an operation may come back: what `libpks::abi::syscall` and docs/ipc.md say, as a table.
#![forbid(unsafe_code)]

use libpks::abi::{Error, Syscall};

use super::arguments::{Argument, words};
use super::call::Entry;

/// Whether a call may have this outcome.
pub(crate) fn keeps(entry: Entry, operation: u64, outcome: Result<(), Error>) -> bool {
    let Err(error) = outcome else { return true };
    match entry {
        Entry::Call => CALL.contains(&error),
        Entry::Reply => REPLY.contains(&error),
        Entry::Operation => operation_keeps(operation, error),
        // It is no call: nothing comes back.
        Entry::Interrupt(_) => true,
    }
}

/// What a call may come to: refused, not accepted, cut off, or answered so by the server's runtime.
const CALL: &[Error] = {
    use Error::*;
    &[
        BadMessage,
        NoSuchCapability,
        WrongObject,
        MissingRights,
        TooDeep,
        WouldDeadlock,
        Deadlock,
        TimedOut,
        Gone,
        PeerDiedMidCall,
        QuotaExceeded,
        LimitReached,
        KeysExhausted,
        OutOfMemory,
        Busy,
        Malformed,
        TooLarge,
    ]
};

/// What a reply may come to that is refused: it is none, or carries what cannot be given away.
const REPLY: &[Error] = {
    use Error::*;
    &[
        WrongState,
        BadMessage,
        NoSuchCapability,
        MissingRights,
        RightsExceeded,
        LimitReached,
        KeysExhausted,
        OutOfMemory,
        Busy,
        Gone,
    ]
};

fn operation_keeps(number: u64, error: Error) -> bool {
    let Some(operation) = Syscall::from_number(number) else {
        return matches!(error, Error::NoSuchSyscall | Error::BadMessage);
    };
    let names = words(operation)
        .iter()
        .any(|word| matches!(word, Argument::Handle(_) | Argument::AnyHandle | Argument::Token));
    let by_handle = [Error::NoSuchCapability, Error::WrongObject, Error::MissingRights];
    error == Error::BadMessage || (names && by_handle.contains(&error)) || own(operation).contains(&error)
}

/// The errors that stand with an operation.
const fn own(operation: Syscall) -> &'static [Error] {
    use Error::*;
    use Syscall as S;
    match operation {
        S::Sleep => &[InvalidArgument],
        S::LogWrite => &[Malformed],
        S::CapMint => {
            &[RightsExceeded, AlreadyBadged, LimitReached, KeysExhausted, OutOfMemory, InvalidArgument, Busy]
        }
        S::EndpointCreate | S::NotificationCreate | S::ThreadSelf => {
            &[QuotaExceeded, LimitReached, OutOfMemory, WrongState]
        }
        S::EndpointServe => &[Busy, InvalidArgument, QuotaExceeded, LimitReached, OutOfMemory],
        S::Wait => &[TimedOut, Gone],
        S::Poll => &[WouldBlock],
        S::ThreadCreate => &[InvalidArgument, LimitReached, QuotaExceeded, OutOfMemory],
        S::ThreadJoin => &[TimedOut, Gone, WouldDeadlock],
        S::ThreadBind => &[InvalidArgument],
        S::ThreadFault => &[WrongState, NotFound],
        S::ThreadResume => &[WrongState],
        S::ThreadSetRights => &[
            WrongState,
            InvalidArgument,
            RightsExceeded,
            QuotaExceeded,
            LimitReached,
            KeysExhausted,
            OutOfMemory,
        ],
        S::RegionCreate => &[InvalidArgument, QuotaExceeded, KeysExhausted, LimitReached, OutOfMemory, Busy],
        S::RegionOpen | S::RegionOpenGlobal => {
            &[InvalidArgument, RightsExceeded, QuotaExceeded, LimitReached, KeysExhausted, OutOfMemory]
        }
        S::RegionRekey => &[InvalidArgument, Busy, KeysExhausted, OutOfMemory],
        S::HeapGrow => &[InvalidArgument, QuotaExceeded, LimitReached, OutOfMemory],
        S::DomainCreate => &[
            InvalidArgument,
            BadImage,
            AbiMismatch,
            LimitReached,
            KeysExhausted,
            QuotaExceeded,
            CpuExceeded,
            OutOfMemory,
            Malformed,
            NotFound,
            Gone,
        ],
        S::DomainGrant => &[
            WrongState,
            InvalidArgument,
            RightsExceeded,
            AlreadyBadged,
            LimitReached,
            KeysExhausted,
            OutOfMemory,
            Busy,
        ],
        S::DomainStart => &[WrongState, InvalidArgument, LimitReached, QuotaExceeded, OutOfMemory],
        S::PortRead | S::PortWrite => &[InvalidArgument],
        S::PortRange => &[InvalidArgument, LimitReached, OutOfMemory],
        S::IrqLine => &[InvalidArgument, Busy, LimitReached, OutOfMemory],
        S::KeyAllocate => &[InvalidArgument, KeysExhausted, KeysUnsupported, LimitReached, OutOfMemory],
        S::ModuleInfo => &[NotFound],
        S::ModuleRead => &[InvalidArgument, NotFound],
        S::Inspect => &[InvalidArgument, NotFound, TooLarge],
        S::Power => &[InvalidArgument, Unsupported],
        S::SelfTest => &[InvalidArgument, WrongState, NotFound, Unsupported],
        _ => &[],
    }
}
