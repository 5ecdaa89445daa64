//! What the words of each operation mean, so that some of them can be plausible.
#![forbid(unsafe_code)]

use libpks::abi::Syscall;
use libpks::cap::ObjectKind;

/// What a word is meant to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Argument {
    /// A handle of an object of this kind.
    Handle(ObjectKind),
    /// A handle of anything.
    AnyHandle,
    /// Rights of a capability.
    Rights,
    /// A number of bytes.
    Bytes,
    /// Where a thread begins.
    Entry,
    /// Where an endpoint is entered.
    ServerEntry,
    /// A small number; most are too large.
    Small,
    /// Bits of a notification.
    Bits,
    /// Rights to memory: 0 to 2.
    Access,
    /// What an opening gave.
    Token,
    /// Anything.
    Any,
}

/// What an operation gives, that later calls may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gives {
    /// Nothing worth keeping.
    Nothing,
    /// A handle of this kind in the first word.
    Handle(ObjectKind),
    /// A handle of the kind that the first argument had.
    SameKind,
    /// A token.
    Token,
}

use Argument as A;
use ObjectKind as K;

/// All operations, those that end somebody for sure left out.
pub(crate) const OPERATIONS: &[Syscall] = {
    use Syscall::*;
    &[
        Yield,
        Sleep,
        Clock,
        LogWrite,
        LogRead,
        LogSubscribe,
        CapMint,
        CapMint,
        CapMint,
        CapDelete,
        CapRevoke,
        CapIdentify,
        EndpointCreate,
        EndpointServe,
        EndpointServe,
        NotificationCreate,
        Signal,
        Signal,
        Wait,
        Poll,
        ThreadCreate,
        ThreadCreate,
        ThreadJoin,
        ThreadKill,
        ThreadBind,
        ThreadSelf,
        ThreadOnFault,
        ThreadFault,
        ThreadSetRights,
        ThreadResume,
        RegionCreate,
        RegionCreate,
        RegionInfo,
        RegionOpen,
        RegionOpen,
        RegionClose,
        RegionOpenGlobal,
        RegionRekey,
        HeapGrow,
        DomainCreate,
        DomainGrant,
        DomainGrant,
        DomainStart,
        DomainStop,
        DomainOnEnd,
        DomainStatus,
        PortRead,
        PortWrite,
        PortRange,
        IrqLine,
        IrqBind,
        IrqAck,
        KeyAllocate,
        ModuleInfo,
        ModuleRead,
        SelfTest,
        Inspect,
        Power,
    ]
};

/// The words of an operation; those behind them are anything.
pub(crate) const fn words(operation: Syscall) -> &'static [Argument] {
    use Syscall as S;
    match operation {
        S::Yield
        | S::Sleep
        | S::Abort
        | S::Clock
        | S::EndpointCreate
        | S::NotificationCreate
        | S::ThreadSelf => &[],
        S::Exit => &[A::Any],
        S::LogWrite => &[A::Handle(K::KernelLog)],
        S::LogRead => &[A::Handle(K::KernelLog), A::Any],
        S::LogSubscribe => &[A::Handle(K::KernelLog), A::Handle(K::Notification), A::Bits],
        S::CapMint => &[A::AnyHandle, A::Rights, A::Small],
        S::CapDelete | S::CapRevoke | S::CapIdentify => &[A::AnyHandle],
        S::EndpointServe => &[A::Handle(K::Endpoint), A::ServerEntry, A::Any, A::Small, A::Bytes],
        S::Signal => &[A::Handle(K::Notification), A::Bits],
        S::Wait | S::Poll => &[A::Handle(K::Notification)],
        S::ThreadCreate => &[A::Entry, A::Any, A::Bytes, A::Small],
        S::ThreadJoin | S::ThreadKill | S::ThreadFault | S::ThreadResume => &[A::Handle(K::Thread)],
        S::ThreadBind => &[A::Handle(K::Thread), A::Small],
        S::ThreadOnFault => &[A::Handle(K::Thread), A::Handle(K::Notification), A::Bits],
        S::ThreadSetRights => &[A::Handle(K::Thread), A::Handle(K::Region), A::Access],
        S::RegionCreate => &[A::Bytes, A::Handle(K::Key)],
        S::RegionInfo => &[A::Handle(K::Region)],
        S::RegionOpen | S::RegionOpenGlobal => &[A::Handle(K::Region), A::Access],
        S::RegionClose => &[A::Token],
        S::RegionRekey => &[A::Handle(K::Region), A::Handle(K::Key)],
        S::HeapGrow => &[A::Bytes],
        S::DomainCreate => &[A::Handle(K::BootModule), A::Handle(K::MemoryQuota), A::Bytes, A::Small],
        S::DomainGrant => &[A::Handle(K::Domain), A::AnyHandle, A::Rights, A::Small],
        S::DomainStart => &[A::Handle(K::Domain), A::Bytes],
        S::DomainStop | S::DomainStatus => &[A::Handle(K::Domain)],
        S::DomainOnEnd => &[A::Handle(K::Domain), A::Handle(K::Notification), A::Bits],
        S::PortRead | S::PortWrite | S::PortRange => &[A::Handle(K::IoPorts), A::Any, A::Small, A::Any],
        S::IrqLine => &[A::Handle(K::IrqLine), A::Small],
        S::IrqBind => &[A::Handle(K::IrqLine), A::Handle(K::Notification), A::Bits],
        S::IrqAck => &[A::Handle(K::IrqLine)],
        S::KeyAllocate => &[A::Handle(K::KeyPool), A::Access],
        S::ModuleInfo => &[A::Handle(K::BootModule)],
        S::ModuleRead => &[A::Handle(K::BootModule), A::Any, A::Bytes],
        S::SelfTest => &[A::Handle(K::SelfTest), A::Small, A::Any],
        S::Inspect => &[A::Handle(K::Inspect), A::Small, A::Any, A::Any],
        S::Power => &[A::Handle(K::Power), A::Small],
    }
}

/// What an operation gives.
pub(crate) const fn gives(operation: Syscall) -> Gives {
    match operation {
        Syscall::CapMint => Gives::SameKind,
        Syscall::EndpointCreate => Gives::Handle(K::Endpoint),
        Syscall::NotificationCreate => Gives::Handle(K::Notification),
        Syscall::ThreadCreate | Syscall::ThreadSelf => Gives::Handle(K::Thread),
        Syscall::RegionCreate => Gives::Handle(K::Region),
        Syscall::RegionOpen => Gives::Token,
        _ => Gives::Nothing,
    }
}
