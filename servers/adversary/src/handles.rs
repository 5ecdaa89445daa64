//! Handles, kinds, rights, badges: calls that the kernel or a server must refuse.
#![forbid(unsafe_code)]

use libpks::abi::Name;
use libpks::abi::Syscall;
use libpks::proto::console::{self, Console};
use libpks::proto::supervisor::{self, Refusal};
use libpks::rt::serve::{self, SELF_BADGE, WordServer};
use libpks::rt::thread::spawn;
use libpks::rt::{
    AnyCap, CallError, CapRights, Capability, Client, Domain, Endpoint, Error, Handle, Instant, IoPorts,
    IrqLine, Notification, Offer, Power, Region, Thread, raw,
};

use crate::act::STACK;
use crate::{Case, Loot, Means, Outcome, all_refused};

/// The ports that the domain has.
pub(crate) const FIRST_PORT: u16 = 0x2e0;
const LAST_PORT: u16 = FIRST_PORT + 7;
/// Places and generations that are guessed.
const PLACES: u64 = 512;
const GENERATIONS: u64 = 8;
/// How often another object is made until one has the place of the first.
const TRIES: u32 = 1000;
/// A badge as `init` gives one to the first server.
const ANOTHER_CLIENT: u64 = 1 << 63 | 1;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let Case { means, region, .. } = case;
    Some(match (case.name, *region) {
        ("forged_handle", _) => forged_handles(means),
        ("guess_handles", _) => guess(means),
        ("stale_handle", _) => stale_handle(),
        ("wrong_object", _) => wrong_objects(means.console),
        ("widen_rights", _) => widen_rights(means.console),
        ("use_without_right", _) => without_right(means),
        ("another_badge", _) => another_badge(means),
        ("hand_on_without_right", _) => hand_on(means.console),
        ("hand_on_a_loan", Some(region)) => {
            all_refused(Error::MissingRights, [region.mint(CapRights::READ, 0).map(drop)])
        }
        ("write_read_only_region", Some(region)) => {
            all_refused(Error::RightsExceeded, [region.open_write().map(drop)])
        }
        ("store_to_read_only_region", Some(region)) => region.open_read().map(|_open| {
            crate::act::write(case.target, 1);
            Loot::Got(case.target)
        }),
        ("store_without_opening", _) => {
            crate::act::write(case.target, 1);
            Ok(Loot::Got(case.target))
        }
        ("ports_beyond_range", _) => ports_beyond_range(means.ports),
        ("devices_without_capability", _) => devices(),
        ("supervise_without_power", _) => supervise(means),
        ("urgent_thread", _) => all_refused(
            Error::InvalidArgument,
            (means.priority + 1..=u8::MAX).step_by(17).map(|high| spawn(STACK, high, || ()).map(drop)),
        ),
        ("no_such_cpu", _) => no_such_cpu(means.priority),
        _ => return None,
    })
}

/// Whether a handle is one of those that the domain was started with.
fn is_own(means: &Means, raw: u64) -> bool {
    means.held.contains(&raw)
}

/// Handles that were never given.
fn forged_handles(means: &Means) -> Outcome {
    let ones = (0..64).map(|bit| 1_u64 << bit);
    let noise = (1..1000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let forged =
        ones.chain(noise).chain([u64::MAX, u64::MAX >> 1, 1 << 63]).filter(|raw| !is_own(means, *raw));
    let uses = forged.flat_map(|raw| {
        let handle = Handle::from_raw(raw);
        [
            Endpoint::from_handle(handle).call_words([raw; 8], Some(Instant::now())).map(drop),
            Notification::from_handle(handle).signal(raw),
        ]
    });
    all_refused(Error::NoSuchCapability, uses)
}

/// Every handle that others may have.
fn guess(means: &Means) -> Outcome {
    let all = (0..PLACES).flat_map(|place| (0..GENERATIONS).map(move |generation| generation << 32 | place));
    for raw in all.filter(|raw| !is_own(means, *raw)) {
        match AnyCap::from_handle(Handle::from_raw(raw)).identify() {
            Err(Error::NoSuchCapability) => {}
            Err(other) => return Err(other),
            Ok(_) => return Ok(Loot::Got(raw)),
        }
    }
    Err(Error::NoSuchCapability)
}

/// A handle whose place somebody else's object has, or another of one's own.
fn stale_handle() -> Outcome {
    let old = Notification::create()?.keep();
    old.delete()?;
    let place = |notification: Notification| notification.handle().raw() as u32;
    for _ in 0..TRIES {
        let new = Notification::create()?.keep();
        if place(new) == place(old) {
            let uses = [old.signal(1), old.poll().map(drop), old.delete(), old.revoke()];
            return all_refused(Error::NoSuchCapability, uses);
        }
    }
    Ok(Loot::Got(u64::from(place(old))))
}

/// An endpoint used as if it were something else.
fn wrong_objects(endpoint: Endpoint) -> Outcome {
    let handle = endpoint.handle();
    let uses = [
        Notification::from_handle(handle).signal(1),
        Region::from_handle(handle).info().map(drop),
        Region::from_handle(handle).open_write().map(drop),
        Thread::from_handle(handle).kill(),
        Domain::from_handle(handle).stop(),
        IoPorts::from_handle(handle).write(0xcf9, 1, 6),
        IrqLine::from_handle(handle).ack(),
        Power::from_handle(handle).act(libpks::abi::inspect::PowerAction::Off),
    ];
    all_refused(Error::WrongObject, uses)
}

fn widen_rights(console: Endpoint) -> Outcome {
    let rights = [CapRights::all(), CapRights::CALL | CapRights::GRANT, CapRights::CALL | CapRights::SERVE];
    all_refused(Error::RightsExceeded, rights.map(|rights| console.mint(rights, 0).map(drop)))
}

/// Answers nothing.
struct Silent;

impl WordServer for Silent {
    fn handle(&self, _badge: u64, words: [u64; 8]) -> [u64; 8] {
        words
    }
}

fn without_right(means: &Means) -> Outcome {
    let whole = Notification::create()?.keep();
    let narrow = whole.mint(CapRights::SIGNAL, 0)?;
    let deaf = whole.mint(CapRights::WAIT, 0)?;
    let uses = [
        narrow.poll().map(drop),
        narrow.wait(Some(Instant::now())).map(drop),
        deaf.signal(1),
        serve::start_words(means.console, Silent, 1, STACK),
    ];
    all_refused(Error::MissingRights, uses)
}

/// The badge says who calls: that of another client, or of the server itself.
fn another_badge(means: &Means) -> Outcome {
    let endpoints = [means.console, means.supervisor.endpoint()];
    let mints = endpoints.into_iter().flat_map(|endpoint| {
        [SELF_BADGE, ANOTHER_CLIENT, 1].map(|badge| endpoint.mint(CapRights::CALL, badge).map(drop))
    });
    all_refused(Error::AlreadyBadged, mints)
}

/// A capability that goes along with a message although it must not be given away.
fn hand_on(console: Endpoint) -> Outcome {
    let client = Client::<Console>::new(console);
    let give = |offer| match client.exchange(&console::Request::Read, &[offer], None) {
        Ok(_) | Err(CallError::BadReply | CallError::Killer(_)) => Ok(()),
        Err(CallError::Failed(error) | CallError::Refused(error)) => Err(error),
    };
    all_refused(Error::MissingRights, [give(Offer::copy(console)), give(Offer::lend(console))])
}

/// Ports beside the range, across its ends, and of widths that there are not.
fn ports_beyond_range(ports: IoPorts) -> Outcome {
    let places = [
        (FIRST_PORT - 1, 1),
        (FIRST_PORT - 1, 2),
        (LAST_PORT + 1, 1),
        (LAST_PORT, 2),
        (LAST_PORT - 2, 4),
        (0xcf8, 4),
        (0xcf9, 1),
        (u16::MAX, 4),
        (FIRST_PORT, 0),
        (FIRST_PORT, 3),
        (FIRST_PORT, 8),
    ];
    let reads = places.map(|(port, width)| ports.read(port, width).map(drop));
    all_refused(
        Error::InvalidArgument,
        reads.into_iter().chain(places.map(|(port, width)| ports.write(port, width, 0))),
    )
}

/// What a driver, a supervisor or a test may, without the capability for it.
fn devices() -> Outcome {
    let nothing = 0;
    let words = [nothing, 0, 0, 0, 0, 0, 0, 0];
    let operations = [
        Syscall::PortRead,
        Syscall::PortWrite,
        Syscall::PortRange,
        Syscall::IrqLine,
        Syscall::IrqBind,
        Syscall::IrqAck,
        Syscall::KeyAllocate,
        Syscall::ModuleInfo,
        Syscall::ModuleRead,
        Syscall::SelfTest,
        Syscall::Inspect,
        Syscall::Power,
        Syscall::DomainStop,
        Syscall::DomainGrant,
    ];
    let uses = operations.map(|operation| raw::operate(operation as u64, 0, words).map(drop));
    all_refused(Error::NoSuchCapability, uses)
}

/// Asks the supervisor to stop, start and restart every server.
fn supervise(means: &Means) -> Outcome {
    use supervisor::{Reply, Request};
    let Ok(Reply::Servers(servers)) = means.supervisor.call(&Request::List { from: 0 }) else {
        return Err(Error::NotFound);
    };
    let asks: [fn(Name) -> Request; 3] = [Request::Stop, Request::Start, Request::Restart];
    for (n, server) in servers.iter().enumerate() {
        for ask in asks {
            match means.supervisor.call(&ask(server.name.clone())) {
                Ok(Reply::Refused(Refusal::NotYours)) => {}
                _ => return Ok(Loot::Got(n as u64)),
            }
        }
    }
    Ok(Loot::Nothing)
}

fn no_such_cpu(priority: u8) -> Outcome {
    let parked = spawn(STACK, priority, || -> () { serve::park() })?;
    let thread = parked.thread();
    let numbers = [64, 255, 1000, u32::MAX - 1, u32::MAX];
    all_refused(Error::InvalidArgument, numbers.map(|cpu| thread.bind(Some(cpu))))
}
