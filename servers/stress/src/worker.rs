//! The other domains of a run: made from the image of whoever runs it, they carry out errands that come as calls.

use alloc::boxed::Box;
use core::time::Duration;

use libpks::abi::start::{NamedCap, StartInfo};
use libpks::abi::{Error, name};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::cap::{CapRights, Handle};
use libpks::rt::domain::{Placement, Plan};
use libpks::rt::{
    BootModule, CallError, Caller, Capability, Client, Domain, Endpoint, Env, EnvError, Instant, Offer,
    Owned, Quota, Server, serve,
};

use crate::agent::{Agent, offer};
use crate::errand::{Answer, Command, Errand};

const STACK: u64 = 64 * 1024;
const BYTES: u64 = 2 << 20;
/// The argument that makes a domain a worker.
const ROLE: &str = "role";
/// Its value.
const WORKER: &str = "stress-worker";
/// How long a call may wait until it is accepted.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the image does in a domain of this role: it serves and does not come back. In another domain nothing.
///
/// # Errors
/// [`EnvError`] if it was not given its endpoint.
pub fn if_worker(env: &Env) -> Result<(), EnvError> {
    if env.arg(ROLE) != Some(WORKER) {
        return Ok(());
    }
    let hand = Hand(Agent::new(env.priority()));
    let served = serve::start(env.endpoint("serve")?, hand, env.stack_bytes());
    served.unwrap_or_else(|error| panic!("cannot serve: {error}"));
    serve::park()
}

struct Hand(Agent);

impl Server for Hand {
    type Protocol = Errand;

    fn handle(&mut self, caller: &mut Caller, request: Command) -> Result<Answer, Error> {
        match request {
            Command::Take => {
                let taken = caller.take(0).ok_or(Error::NotFound)?.keep();
                Ok(Answer::Handle(taken.handle().raw()))
            }
            Command::Send(handle, sent) => caller.give(offer(handle, sent)).map(|()| Answer::Done),
            Command::Borrow(how) => Agent::borrow(caller.take(0).ok_or(Error::NotFound)?, how),
            other => self.0.run(&other),
        }
    }
}

/// What workers are made of.
#[derive(Clone, Copy, Debug)]
pub struct Nursery {
    /// Where their memory comes from.
    pub quota: Quota,
    /// Their image.
    pub image: BootModule,
    /// Their priority.
    pub priority: u8,
}

/// A worker. Dropping it ends it.
pub(crate) struct Worker {
    nursery: Nursery,
    endpoint: Owned<Endpoint>,
    domain: Option<Owned<Domain>>,
    pub(crate) name: libpks::abi::Name,
}

impl Worker {
    /// Starts worker `number`.
    pub(crate) fn start(nursery: Nursery, number: usize) -> Result<Self, Error> {
        let called = libpks::rt::text::cut::<40>(format_args!("stress-{number}"));
        let mut worker = Self { nursery, endpoint: Endpoint::create()?, domain: None, name: name(&called) };
        worker.begin()?;
        Ok(worker)
    }

    fn begin(&mut self) -> Result<(), Error> {
        let Nursery { quota, image, priority } = self.nursery;
        let domain = Domain::create(&Plan {
            name: &self.name,
            image,
            quota,
            quota_bytes: BYTES,
            priority,
            budget: Budget::DEFAULT,
            overrun_ns: OVERRUN_DEFAULT_NS,
            placement: Placement::Here,
        })?;
        let args =
            libpks::rt::text::cut::<96>(format_args!("{ROLE}={WORKER} stack={STACK} priority={priority}"));
        let args = args.as_str().try_into().map_err(|_| Error::TooLarge)?;
        let handle = domain.grant(*self.endpoint, CapRights::SERVE, 0)?.raw();
        let mut info =
            Box::new(StartInfo { name: self.name.clone(), args, restarts: 0, caps: Default::default() });
        info.caps.push(NamedCap { name: name("serve"), handle }).map_err(|_| Error::TooLarge)?;
        domain.start(STACK, &info)?;
        self.domain = Some(domain);
        Ok(())
    }

    /// Stops it, and starts another domain in its place.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        if let Some(domain) = self.domain.take() {
            domain.stop()?;
        }
        self.begin()
    }

    /// Has an errand run.
    pub(crate) fn ask(&self, command: &Command) -> Result<Answer, Error> {
        self.exchange(command, &[]).map(|(answer, _)| answer)
    }

    /// The same with a capability on the way there, and perhaps one back: its handle.
    pub(crate) fn exchange(
        &self,
        command: &Command,
        offers: &[Offer],
    ) -> Result<(Answer, Option<u64>), Error> {
        let client = Client::<Errand>::new(*self.endpoint);
        let (reply, received) = client.exchange(command, offers, Some(Instant::after(PATIENCE))).map_err(
            |error| match error {
                CallError::Failed(error) | CallError::Refused(error) => error,
                CallError::BadReply | CallError::Killer(_) => Error::Malformed,
            },
        )?;
        let handle = |cap: Owned<libpks::rt::AnyCap>| -> Handle { cap.keep().handle() };
        Ok((reply?, received.into_iter().next().map(|cap| handle(cap).raw())))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(domain) = &self.domain {
            let _ = domain.stop();
        }
    }
}
