//! Words that no honest server sends.

use libpks::abi::{Error, Syscall};
use libpks::rt::{Capability, Notification, Region, raw};

use super::refused;
use crate::crew::{Helper, Tools};
use crate::errand::{Reply, Request};
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

/// Operations whose first word is a handle.
const BY_HANDLE: [Syscall; 36] = {
    use Syscall::*;
    [
        LogWrite,
        LogRead,
        LogSubscribe,
        CapMint,
        CapDelete,
        CapRevoke,
        CapIdentify,
        Signal,
        Wait,
        Poll,
        ThreadJoin,
        ThreadKill,
        ThreadBind,
        ThreadOnFault,
        ThreadFault,
        ThreadSetRights,
        ThreadResume,
        RegionInfo,
        RegionOpen,
        RegionClose,
        RegionOpenGlobal,
        RegionRekey,
        DomainCreate,
        DomainGrant,
        DomainStart,
        DomainStop,
        DomainOnEnd,
        DomainStatus,
        PortRead,
        PortWrite,
        PortRange,
        IrqBind,
        IrqAck,
        KeyAllocate,
        ModuleInfo,
        Inspect,
    ]
};

pub(super) fn forged(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    let gone = Notification::create()?;
    let stale = gone.handle().raw();
    drop(gone);
    let live = tools.quota.handle().raw();
    // Another generation of a good one, and nodes that belong to others.
    let forged = [0, 1, u64::MAX, stale, live ^ (1 << 32), live ^ (1 << 63), (1 << 32) | 1, (1 << 32) | 9];
    for handle in forged {
        for operation in BY_HANDLE {
            // Word 1 is a right, an access or a width that is in range.
            let outcome = raw::operate(operation as u64, 0, [handle, 1, 1, 1, 0, 0, 0, 0]);
            refused(checks, "a forged handle", outcome, Error::NoSuchCapability)?;
        }
        let called =
            raw::call(libpks::rt::Endpoint::from_handle(libpks::rt::Handle::from_raw(handle)), 0, [0; 8]);
        refused(checks, "a call through a forged handle", called, Error::NoSuchCapability)?;
    }
    let region = Region::create(8, None)?;
    for operation in
        [Syscall::Signal, Syscall::Wait, Syscall::ThreadJoin, Syscall::DomainStop, Syscall::PortRead]
    {
        let outcome = raw::operate(operation as u64, 0, [region.handle().raw(), 1, 1, 0, 0, 0, 0, 0]);
        refused(checks, "a handle of another kind", outcome, Error::WrongObject)?;
    }
    // A server's handles mean nothing to its client: each number is looked up where the thread is.
    checks.same(format_args!("the helper"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("eight forged handles at 36 operations")
}

pub(super) fn garbage(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    // Reserved bits, an error of one's own, modes that do not exist, more capabilities than there are words.
    for bit in [13, 14, 15, 19, 20, 23, 29, 31, 32, 40, 63] {
        let info = 1_u64 << bit;
        refused(checks, "a call", raw::call(*helper.endpoint, info, [0; 8]), Error::BadMessage)?;
        let outcome = raw::operate(Syscall::Clock as u64, info, [0; 8]);
        refused(checks, "an operation", outcome, Error::BadMessage)?;
    }
    for info in [5 << 16, 7 << 16, (1 << 16) | (3 << 20), (1 << 16) | (1 << 23)] {
        refused(checks, "capabilities", raw::call(*helper.endpoint, info, [0; 8]), Error::BadMessage)?;
    }
    let with_capability = raw::operate(Syscall::Clock as u64, 1 << 16, [0; 8]);
    refused(checks, "a capability for the kernel", with_capability, Error::BadMessage)?;
    for number in [7777, 8, 9, 14, 83, u64::MAX, 1 << 32, 1 << 63] {
        refused(checks, "an operation", raw::operate(number, 0, [0; 8]), Error::NoSuchSyscall)?;
    }
    // Words that are no request: the server's runtime answers, the server lives.
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let words = [0; 8].map(|_: u64| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise
        });
        // The variant may by chance be one without consequences; none that waits is that short.
        let words = words.map(|word| word | 0x40);
        raw::call(*helper.endpoint, 0, words)?;
    }
    checks.same(format_args!("after noise"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("reserved bits, unknown operations, 200 messages of noise")
}

pub(super) fn oversized(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    for bytes in [4097, 4098, 5000, 8191, 0x1fff] {
        refused(checks, "a call", raw::call(*helper.endpoint, bytes, [0; 8]), Error::BadMessage)?;
        let outcome = raw::operate(Syscall::Clock as u64, bytes, [0; 8]);
        refused(checks, "an operation", outcome, Error::BadMessage)?;
    }
    // As much as there is: read by the server as no request, and answered.
    raw::call(*helper.endpoint, 4096, [0; 8])?;
    checks.same(format_args!("afterwards"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("4097 to 8191 bytes refused, 4096 taken")
}

pub(super) fn sizes(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let huge = [u64::MAX, u64::MAX - 1, u64::MAX - 4095, u64::MAX - 4096, 1 << 63, 1 << 48, (1 << 40) + 1];
    let region = Region::create(8, None)?;
    let helper = Helper::new(tools)?;
    let endpoint = libpks::rt::Endpoint::create()?;
    for size in huge {
        let operations: [(Syscall, [u64; 8]); 9] = [
            (Syscall::RegionCreate, [size, 0, 0, 0, 0, 0, 0, 0]),
            (Syscall::HeapGrow, [size, 0, 0, 0, 0, 0, 0, 0]),
            (Syscall::RegionOpen, [region.handle().raw(), size, 0, 0, 0, 0, 0, 0]),
            (Syscall::CapMint, [region.handle().raw(), size, 0, 0, 0, 0, 0, 0]),
            (Syscall::PortRead, [tools.ports.handle().raw(), size, 1, 0, 0, 0, 0, 0]),
            (Syscall::PortRead, [tools.ports.handle().raw(), 0x2e8, size, 0, 0, 0, 0, 0]),
            (Syscall::PortWrite, [tools.ports.handle().raw(), 0x2e8, size, 0, 0, 0, 0, 0]),
            (Syscall::ModuleRead, [tools.image.handle().raw(), size, size, 0, 0, 0, 0, 0]),
            (
                Syscall::DomainCreate,
                [tools.image.handle().raw(), tools.quota.handle().raw(), size, 0, 0, 0, 0, 0],
            ),
        ];
        for (operation, words) in operations {
            let outcome = raw::operate(operation as u64, 0, words);
            let typed = matches!(
                outcome,
                Err(Error::InvalidArgument
                    | Error::LimitReached
                    | Error::QuotaExceeded
                    | Error::MissingRights)
            );
            checks.that(typed, format_args!("{operation:?} with {size:#x}: {outcome:x?}"))?;
        }
        let serve = libpks::rt::serve::start_shared(*endpoint, Nobody, size, size);
        refused(checks, "serving", serve, Error::InvalidArgument)?;
        let spawned = libpks::rt::thread::spawn(size, 0, || {});
        refused(checks, "a stack", spawned.map(drop), Error::InvalidArgument)?;
    }
    // A domain that is more urgent than its maker.
    let [image, quota] = [tools.image.handle().raw(), tools.quota.handle().raw()];
    let urgent = [image, quota, 2 << 20, u64::from(tools.priority) + 1, 0, 0, 0, 0];
    let made = raw::operate(Syscall::DomainCreate as u64, 0, urgent);
    refused(checks, "a more urgent domain", made, Error::InvalidArgument)?;
    checks.same(format_args!("afterwards"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    Ok("seven huge sizes at eleven operations")
}

/// A server that is never called.
struct Nobody;

impl libpks::rt::SharedServer for Nobody {
    type Protocol = crate::errand::Errand;

    fn handle(&self, _caller: &mut libpks::rt::Caller, _request: Request) -> Reply {
        Reply::Done
    }
}
