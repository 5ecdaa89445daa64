//! What the image does in a domain with a role: `server` runs errands, `caller` makes one call, `client` makes calls on
//! a budget of its own, `beater` counts in one region while it reads another, `echo` sends
//! back what comes through a ring.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use libpks::abi::layout;
use libpks::rt::ring::{Receiver, RingFailure, Sender};
use libpks::rt::sync::Mutex;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{
    AnyCap, Caller, Capability, Client, Domain, Endpoint, Env, EnvError, Error, Instant, Notification, Offer,
    Owned, Region, SharedServer, Thread, serve, time,
};

use crate::client;
use crate::crew::STACK;
use crate::errand::{Ear, Errand, Reply, Request};
use crate::haunt::{self, Haunter};

/// What a helper signals when it has come to where it waits.
pub(crate) const HERE: u64 = 1;
/// What is signalled to whoever asked to hear of something.
pub(crate) const HEARD: u64 = 4;
/// What the caller's region holds.
pub(crate) const LENT: u64 = 0x1e47;

pub(crate) fn main(env: &Env, role: &str) -> Result<(), EnvError> {
    match role {
        "server" => {
            let hand = Hand {
                serve: env.endpoint("serve")?,
                next: env.endpoint("next").ok().map(Client::new),
                note: env.notification("note").ok(),
                gate: env.notification("gate").ok(),
                own: env.capability("own").ok(),
                kept: Mutex::new(None),
                haunter: Mutex::new(None),
                ears: Mutex::new(Vec::new()),
                workers: Mutex::new(Vec::new()),
                priority: env.priority(),
                waits: AtomicU64::new(0),
                last: AtomicU64::new(0),
            };
            let served = serve::start_shared(hand.serve, hand, env.activations(), env.stack_bytes());
            served.unwrap_or_else(|error| panic!("cannot serve: {error}"));
            serve::park()
        }
        "caller" => {
            let openings = env.arg("openings").and_then(|count| count.parse().ok()).unwrap_or(0);
            call(Client::new(env.endpoint("next")?), openings)
                .unwrap_or_else(|error| panic!("cannot call: {error}"));
            Ok(())
        }
        "client" => match client::main(env) {
            Ok(never) => match never {},
            Err(error) => panic!("cannot go on: {error}"),
        },
        "echo" => {
            let stopped = echo(env);
            panic!("the echo has stopped: {stopped:?}")
        }
        "beater" => {
            let cpu = env.arg("cpu").and_then(|cpu| cpu.parse().ok());
            let beaten = beat(env.capability("beat")?, env.capability("region")?, cpu);
            panic!("the beat has stopped: {beaten:?}")
        }
        other => panic!("no such role: {other}"),
    }
}

/// Lends a region of its own and waits for the answer, with so many openings of it at home. Another region of its own goes
/// along for good.
fn call(next: Client<Errand>, openings: usize) -> Result<(), Error> {
    let region = Region::create(8, None)?;
    region.open_write()?.write_u64(0, LENT)?;
    let _open = (0..openings).map(|_| region.open_read()).collect::<Result<Vec<_>, Error>>()?;
    // Whoever waits for this domain's end learns how it went.
    let given = Region::create(8, None)?;
    let offers = [Offer::lend(*region), Offer::copy(*given)];
    let _ = next.exchange(&Request::ReadLater { openings: 1 }, &offers, None);
    Ok(())
}

/// Sends back what comes through a ring, its first word twice. Only an error ends it.
fn echo(env: &Env) -> Result<(), EchoError> {
    let mut receiver = Receiver::<2>::new(
        env.capability("there")?,
        env.capability("there-arrived")?,
        env.capability("there-room")?,
    )?;
    let mut sender = Sender::<2>::new(
        env.capability("back")?,
        env.capability("back-arrived")?,
        env.capability("back-room")?,
    )?;
    loop {
        let [word, check] = receiver.take_until(None)?;
        let answer = if check == !word { [word, word] } else { [0, check] };
        sender.send_until(&answer, None)?;
    }
}

/// Why the echo stops.
#[derive(Debug, thiserror::Error)]
enum EchoError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Ring(#[from] RingFailure),
}

/// Counts in one region, and reads the other after each count. Only a fault ends it.
fn beat(beat: Region, region: Region, cpu: Option<u32>) -> Result<(), Error> {
    if cpu.is_some() {
        Thread::current()?.bind(cpu)?;
    }
    let (beat, region) = (beat.open_write()?, region.open_read()?);
    for count in 1.. {
        beat.write_u64(0, count)?;
        region.read_u64(0)?;
    }
    Ok(())
}

/// Runs errands.
struct Hand {
    serve: Endpoint,
    next: Option<Client<Errand>>,
    note: Option<Notification>,
    gate: Option<Notification>,
    own: Option<Domain>,
    kept: Mutex<Option<Owned<AnyCap>>>,
    haunter: Mutex<Option<Haunter>>,
    /// What [`Request::Hear`] came with.
    ears: Mutex<Vec<Owned<AnyCap>>>,
    /// Threads that were started for an errand and go on after it.
    workers: Mutex<Vec<JoinHandle<Result<(), Error>>>>,
    priority: u8,
    waits: AtomicU64,
    last: AtomicU64,
}

impl SharedServer for Hand {
    type Protocol = Errand;

    fn handle(&self, caller: &mut Caller, request: Request) -> Reply {
        self.run(caller, request).unwrap_or_else(Reply::Failed)
    }
}

impl Hand {
    fn run(&self, caller: &mut Caller, request: Request) -> Result<Reply, Error> {
        match request {
            Request::Echo(bytes) => {
                Ok(Reply::Bytes(bytes.get(..bytes.len().saturating_sub(1)).unwrap_or_default().to_vec()))
            }
            Request::Add(numbers) => Ok(Reply::Numbers(numbers.map(|number| number.wrapping_add(1)))),
            Request::Badge => Ok(Reply::Word(caller.badge)),
            Request::Identify => {
                let identity = caller.take(0).ok_or(Error::NotFound)?.identify()?;
                Ok(Reply::Identity(identity.kind.code(), identity.rights.bits(), identity.badge))
            }
            Request::Derive => {
                let capability = caller.take(0).ok_or(Error::NotFound)?;
                let rights = capability.identify()?.rights;
                capability.mint(rights, 0).map(|_| Reply::Done)
            }
            Request::Keep => {
                *self.kept.lock() = Some(caller.take(0).ok_or(Error::NotFound)?);
                Ok(Reply::Done)
            }
            Request::GiveBack => {
                let kept = self.kept.lock().take().ok_or(Error::NotFound)?;
                caller.give(Offer::hand_over(kept)).map(|()| Reply::Done)
            }
            Request::LendBack => {
                let kept = self.kept.lock().take().ok_or(Error::NotFound)?.keep();
                caller.give(Offer::lend(kept)).map(|()| Reply::Done)
            }
            Request::MoveBack => {
                let capability = caller.take(0).ok_or(Error::NotFound)?;
                caller.give(Offer::hand_over(capability)).map(|()| Reply::Done)
            }
            Request::Give { after_wait } => {
                let note = Notification::create()?;
                if after_wait {
                    self.wait()?;
                }
                caller.give(Offer::hand_over(note)).map(|()| Reply::Done)
            }
            Request::Make => {
                caller.give(Offer::hand_over(Region::create(8, None)?))?;
                caller.give(Offer::hand_over(Notification::create()?))?;
                caller.give(Offer::hand_over(Endpoint::create()?)).map(|()| Reply::Done)
            }
            Request::LendOn => self.lend_on(caller),
            Request::Signal(bits) => {
                caller.take(0).ok_or(Error::NotFound)?.into_kind::<Notification>()?.signal(bits)?;
                Ok(Reply::Done)
            }
            Request::CallFirst => {
                let endpoint = caller.take(0).ok_or(Error::NotFound)?.into_kind::<Endpoint>()?;
                Client::<Errand>::new(*endpoint).call(&Request::Badge).map_err(cause)
            }
            Request::Hear(ear) => self.hear(caller, ear),
            Request::Deafen { second } => {
                let mut ears = self.ears.lock();
                if ears.len() != 2 {
                    return Err(Error::NotFound);
                }
                drop(ears.remove(usize::from(second)));
                Ok(Reply::Done)
            }
            Request::Prey => self.prey(caller),
            Request::Haunt { cpu } => {
                let region = caller.take(0).ok_or(Error::NotFound)?.into_kind::<Region>()?.keep();
                // What else it may do stays with this domain.
                *self.kept.lock() = caller.take(1);
                let note = self.note.ok_or(Error::NotFound)?;
                *self.haunter.lock() = Some(haunt::start(self.priority, cpu, region, true, note)?);
                Ok(Reply::Done)
            }
            Request::Bury => {
                self.haunter.lock().take().ok_or(Error::NotFound)?.thread().kill().map(|()| Reply::Done)
            }
            Request::TakeThread => Thread::current().map(|_| Reply::Done),
            Request::DropServe => self.serve.delete().map(|()| Reply::Done),
            Request::StopSelf => self.own.ok_or(Error::NotFound)?.stop().map(|()| Reply::Done),
            Request::ForgetSelf => self.own.ok_or(Error::NotFound)?.delete().map(|()| Reply::Done),
            Request::Panic => panic!("as asked"),
            Request::Tally => {
                Ok(Reply::Words(self.waits.load(Ordering::SeqCst), self.last.load(Ordering::SeqCst)))
            }
            Request::Nap(millis) => time::sleep(Duration::from_millis(millis)).map(|()| Reply::Done),
            Request::Toil(millis) => self.toil(Duration::from_millis(millis)),
            Request::Hang => self.hang(),
            Request::Pass(inner) => self.next.ok_or(Error::NotFound)?.call(&inner).map_err(cause),
            Request::Wait => {
                self.wait()?;
                self.waits.fetch_add(1, Ordering::SeqCst);
                Ok(Reply::Done)
            }
            Request::Forward { after_wait, holding, wait } => self.forward(caller, after_wait, holding, wait),
            Request::Descend => self.descend(),
            Request::ReadAt(address) => Unguarded::in_regions(address, 8)?.read_u64(0).map(Reply::Word),
            Request::Read
            | Request::Write(_)
            | Request::OpenForAll
            | Request::OpenAndReturn
            | Request::ReadUnopened
            | Request::ReadLater { .. }
            | Request::ReadAfter => self.touch(caller, &request),
        }
    }

    fn lend_on(&self, caller: &mut Caller) -> Result<Reply, Error> {
        let borrowed = caller.take(0).ok_or(Error::NotFound)?;
        let (next, lent) = (self.next.ok_or(Error::NotFound)?, *borrowed);
        let worker = spawn(STACK, self.priority, move || {
            let request = Request::ReadLater { openings: 1 };
            next.exchange(&request, &[Offer::lend(lent)], None).map(drop).map_err(cause)
        })?;
        self.workers.lock().push(worker);
        self.wait()?;
        drop(borrowed);
        Ok(Reply::Done)
    }

    fn hear(&self, caller: &mut Caller, ear: Ear) -> Result<Reply, Error> {
        let (what, note) = (caller.take(0).ok_or(Error::NotFound)?, caller.take(1).ok_or(Error::NotFound)?);
        let told = note.cast::<Notification>()?;
        match ear {
            Ear::End => what.cast::<Domain>()?.on_end(told, HEARD)?,
            Ear::Fault => what.cast::<Thread>()?.on_fault(told, HEARD)?,
        }
        let mut ears = self.ears.lock();
        ears.clear();
        ears.extend([what, note]);
        Ok(Reply::Done)
    }

    fn prey(&self, caller: &mut Caller) -> Result<Reply, Error> {
        // The end of the area of regions, where none lies in a machine of this size.
        let nowhere = Unguarded::in_regions(layout::REGIONS_BASE + layout::REGIONS_BYTES - layout::PAGE, 8)?;
        let gate = self.gate.ok_or(Error::NotFound)?;
        let prey = spawn(STACK, self.priority, move || {
            gate.wait(None)?;
            nowhere.read_u64(0).map(drop)
        })?;
        caller.give(Offer::copy(prey.thread()))?;
        self.workers.lock().push(prey);
        Ok(Reply::Done)
    }

    /// Says that it is here.
    fn say_here(&self) -> Result<(), Error> {
        self.note.ok_or(Error::NotFound)?.signal(HERE)
    }

    /// The same, and waits until somebody lets it go on.
    fn wait(&self) -> Result<(), Error> {
        self.say_here()?;
        self.gate.ok_or(Error::NotFound)?.wait(None).map(drop)
    }

    fn toil(&self, time: Duration) -> Result<Reply, Error> {
        self.say_here()?;
        let end = Instant::after(time);
        while Instant::now() < end {}
        self.waits.fetch_add(1, Ordering::SeqCst);
        Ok(Reply::Done)
    }

    /// On its own, so that a backtrace names it.
    #[inline(never)]
    fn hang(&self) -> Result<Reply, Error> {
        self.say_here()?;
        loop {
            core::hint::spin_loop();
        }
    }

    fn forward(
        &self,
        caller: &mut Caller,
        after_wait: bool,
        holding: bool,
        wait: bool,
    ) -> Result<Reply, Error> {
        let next = self.next.ok_or(Error::NotFound)?;
        let held = if holding { Some(self.region(caller)?.1.open_read()?) } else { None };
        if after_wait {
            self.wait()?;
        }
        let reply = next.call(if wait { &Request::Wait } else { &Request::Badge }).map_err(cause)?;
        if let Some(held) = held {
            held.read_u64(0)?;
        }
        Ok(reply)
    }

    fn descend(&self) -> Result<Reply, Error> {
        match self.next.ok_or(Error::NotFound)?.call(&Request::Descend).map_err(cause) {
            Ok(Reply::Word(deeper)) => Ok(Reply::Word(deeper + 1)),
            Ok(other) => Ok(other),
            Err(Error::TooDeep) => Ok(Reply::Word(0)),
            Err(error) => Err(error),
        }
    }

    /// The region: what came with the message, and lives as long as this; or what is kept.
    fn region(&self, caller: &mut Caller) -> Result<(Option<Owned<Region>>, Region), Error> {
        if let Some(received) = caller.take(0) {
            let region = received.into_kind::<Region>()?;
            let handle = *region;
            return Ok((Some(region), handle));
        }
        let kept = self.kept.lock();
        let region = kept.as_ref().ok_or(Error::NotFound)?.cast::<Region>()?;
        Ok((None, region))
    }

    fn touch(&self, caller: &mut Caller, request: &Request) -> Result<Reply, Error> {
        let (_received, region) = self.region(caller)?;
        match *request {
            Request::Read => region.open_read()?.read_u64(0).map(Reply::Word),
            Request::Write(value) => region.open_write()?.write_u64(0, value).map(|()| Reply::Done),
            Request::OpenForAll => {
                region.open_global(libpks::rt::region::Access::ReadWrite).map(|()| Reply::Done)
            }
            Request::OpenAndReturn => {
                let held = region.open_read()?;
                let value = held.read_u64(0)?;
                // A guard that is never dropped: the kernel alone can close now.
                core::mem::forget(held);
                Ok(Reply::Word(value))
            }
            Request::ReadUnopened => region.unguarded()?.read_u64(0).map(Reply::Word),
            Request::ReadLater { openings } => {
                let mut guards =
                    (0..openings).map(|_| region.open_read()).collect::<Result<Vec<_>, Error>>()?;
                self.wait()?;
                guards.truncate(1);
                // Outlives this call, and whoever gave it.
                caller.take(1).map(Owned::keep);
                let value = guards.first().ok_or(Error::NotFound)?.read_u64(0)?;
                self.last.store(value, Ordering::SeqCst);
                Ok(Reply::Word(value))
            }
            Request::ReadAfter => {
                let gate = caller.take(1).ok_or(Error::NotFound)?.into_kind::<Notification>()?;
                let guard = region.open_read()?;
                self.say_here()?;
                gate.wait(None)?;
                guard.read_u64(0).map(Reply::Word)
            }
            _ => Err(Error::InvalidArgument),
        }
    }
}

/// What the kernel said of a call.
pub(crate) fn cause(error: libpks::rt::CallError) -> Error {
    match error {
        libpks::rt::CallError::Failed(error) | libpks::rt::CallError::Refused(error) => error,
        libpks::rt::CallError::BadReply | libpks::rt::CallError::Killer(_) => Error::Malformed,
    }
}
