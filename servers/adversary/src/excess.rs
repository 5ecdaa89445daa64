//! Crimes against the kernel's operations and against other servers, which need no unsafe code.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use libpks::proto::Protocol;
use libpks::rt::thread::spawn;
use libpks::rt::{
    CallError, Capability, Client, Endpoint, Error, Handle, Instant, Notification, Region, serve, time,
};
use serde::{Deserialize, Serialize};

const STACK: u64 = 16 * 1024;
const PIECE: usize = 64 * 1024;
/// How long a thread may take to get on.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any quota holds.
const MANY: usize = 1 << 20;

/// Commits a crime; `None` if it is not one of these.
pub(crate) fn commit(name: &str, console: Endpoint, priority: u8) -> Option<Result<(), Error>> {
    Some(match name {
        "forged_handle" => forged_handles(),
        "wrong_object" => wrong_objects(console),
        "garbage_message" => garbage(console),
        "exhaust_heap" => exhaust_heap(),
        "exhaust_threads" => exhaust_threads(priority),
        "infinite_loop" => spawn(STACK, priority, spin).map(drop),
        _ => return None,
    })
}

/// Commits a crime on a region that came with the request; `None` if it is not one of these.
pub(crate) fn commit_on(name: &str, region: Region, priority: u8) -> Option<Result<(), Error>> {
    Some(match name {
        "write_read_only_region" => region.open_write().map(drop),
        "read_after_revoke" | "read_after_loan" => keep_reading(region, priority),
        _ => return None,
    })
}

/// Opens a region in a thread of its own, which reads it for ever without entering the kernel; comes back once that
/// works.
fn keep_reading(region: Region, priority: u8) -> Result<(), Error> {
    static READS: AtomicU64 = AtomicU64::new(0);
    let raw = region.unguarded()?;
    let read = move || -> Result<(), Error> {
        let _open = region.open_read()?;
        loop {
            raw.read_u64(0)?;
            READS.fetch_add(1, Ordering::Relaxed);
        }
    };
    spawn(STACK, priority, read)?;
    let until = Instant::after(PATIENCE);
    while READS.load(Ordering::Relaxed) < 100 {
        if Instant::now() > until {
            return Err(Error::TimedOut);
        }
        time::sleep(Duration::from_millis(1))?;
    }
    Ok(())
}

/// Handles that were never given; the error if it is the same for all.
fn forged_handles() -> Result<(), Error> {
    let ones = (0..64).map(|bit| 1_u64 << bit);
    let noise = (1..1000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut last = Ok(());
    for raw in ones.chain(noise).chain([u64::MAX, u64::MAX >> 1, 1 << 63]) {
        let forged = Handle::from_raw(raw);
        let by_call = Endpoint::from_handle(forged).call_words([raw; 8], Some(Instant::now())).map(drop);
        let by_use = Notification::from_handle(forged).signal(raw);
        for outcome in [by_call, by_use] {
            // One may name a capability of this domain: then it is of another kind, or may be used.
            let is_own = matches!(outcome, Err(Error::WrongObject | Error::MissingRights | Error::TimedOut));
            last = if is_own { last } else { outcome };
            if !is_own && outcome != Err(Error::NoSuchCapability) {
                return outcome;
            }
        }
    }
    last
}

/// An endpoint used as if it were something else.
fn wrong_objects(endpoint: Endpoint) -> Result<(), Error> {
    let handle = endpoint.handle();
    let uses = [
        Notification::from_handle(handle).signal(1),
        Region::from_handle(handle).info().map(drop),
        Region::from_handle(handle).open_write().map(drop),
        libpks::rt::Thread::from_handle(handle).kill(),
        libpks::rt::Domain::from_handle(handle).stop(),
        libpks::rt::IoPorts::from_handle(handle).write(0xcf9, 1, 6),
    ];
    uses.into_iter().find(|outcome| *outcome != Err(Error::WrongObject)).unwrap_or(Err(Error::WrongObject))
}

/// A protocol that nobody speaks.
struct Noise;

impl Protocol for Noise {
    const NAME: &'static str = "noise";
    type Request = Bytes;
    type Reply = ();
}

#[derive(Serialize, Deserialize)]
struct Bytes(Vec<u8>);

/// Noise of many lengths to a server whose requests it cannot be; the error if it is the same for all.
fn garbage(server: Endpoint) -> Result<(), Error> {
    let client = Client::<Noise>::new(server);
    let mut last = Ok(());
    for length in [70, 300, 1000, 4000] {
        last = match client.call(&Bytes(alloc::vec![0xff; length])) {
            Err(CallError::Refused(error) | CallError::Failed(error)) => Err(error),
            Ok(()) | Err(CallError::BadReply) => return Ok(()),
        };
        if last != Err(Error::Malformed) {
            return last;
        }
    }
    last
}

fn exhaust_heap() -> Result<(), Error> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for _ in 0..MANY {
        let mut piece = Vec::new();
        if pieces.try_reserve(1).is_err() || piece.try_reserve_exact(PIECE).is_err() {
            // The allocator does not say why; the kernel does.
            return Region::create(PIECE as u64, None).map(drop);
        }
        pieces.push(piece);
    }
    Ok(())
}

fn exhaust_threads(priority: u8) -> Result<(), Error> {
    let mut threads = Vec::new();
    for _ in 0..MANY {
        threads.push(spawn(STACK, priority, || -> () { serve::park() })?);
    }
    Ok(())
}

fn spin() {
    loop {
        core::hint::spin_loop();
    }
}
