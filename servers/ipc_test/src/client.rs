//! A domain that calls a helper, so that the time is charged to it: what it does, and how a scenario has it do that.

use alloc::boxed::Box;
use alloc::format;
use core::convert::Infallible;

use libpks::rt::{CapRights, Client, Domain, Endpoint, Env, Error, Instant, Notification, Owned, Thread};

use crate::crew::{Grant, Means, PATIENCE, Tools, grant};
use crate::errand::{Errand, Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Run, Stop};

/// The call has come back with a reply.
pub(crate) const SERVED: u64 = 1;
/// The server died in the middle of it.
pub(crate) const PEER_DIED: u64 = 2;
/// Something else came of it.
const OTHER: u64 = 4;

/// What it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// To use the CPU for so many milliseconds.
    Toil(u64),
    /// To wait.
    Wait,
    /// To hang.
    Hang,
    /// The same of whoever the helper calls.
    ToilBehind(u64),
    /// The same.
    HangBehind,
}

impl Wish {
    fn word(self) -> (&'static str, u64) {
        match self {
            Self::Toil(ms) => ("toil", ms),
            Self::Wait => ("wait", 0),
            Self::Hang => ("hang", 0),
            Self::ToilBehind(ms) => ("toil-behind", ms),
            Self::HangBehind => ("hang-behind", 0),
        }
    }

    fn request(word: &str, ms: u64) -> Option<Request> {
        Some(match word {
            "toil" => Request::Toil(ms),
            "wait" => Request::Wait,
            "hang" => Request::Hang,
            "toil-behind" => Request::Pass(Box::new(Request::Toil(ms))),
            "hang-behind" => Request::Pass(Box::new(Request::Hang)),
            _ => return None,
        })
    }
}

/// What it does until it is asked to call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// It waits, which costs nothing.
    Idle,
    /// It uses up its budget.
    Spending,
}

/// Makes a call each time that it is asked to, and tells what came of it.
pub(crate) fn main(env: &Env) -> Result<Infallible, Error> {
    let missing = |_| Error::NotFound;
    let next = Client::<Errand>::new(env.endpoint("next").map_err(missing)?);
    let (note, gate) =
        (env.notification("note").map_err(missing)?, env.notification("gate").map_err(missing)?);
    let ms = env.arg("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let request = env.arg("ask").and_then(|word| Wish::request(word, ms)).ok_or(Error::InvalidArgument)?;
    if let Some(cpu) = env.arg("cpu").and_then(|cpu| cpu.parse().ok()) {
        Thread::current()?.bind(Some(cpu))?;
    }
    loop {
        if env.arg("until") == Some("spending") {
            while gate.poll() == Err(Error::WouldBlock) {}
        } else {
            gate.wait(None)?;
        }
        let bits = match next.call(&request).map_err(cause) {
            Ok(Reply::Done) => SERVED,
            Err(Error::PeerDiedMidCall) => PEER_DIED,
            _ => OTHER,
        };
        note.signal(bits)?;
    }
}

/// Such a domain. Dropping it ends it.
pub(crate) struct Asker {
    domain: Owned<Domain>,
    note: Owned<Notification>,
    gate: Owned<Notification>,
}

impl Asker {
    /// Starts one that will ask `next`; on one CPU only, if said.
    pub(crate) fn start(
        tools: &Tools,
        means: Means,
        next: Endpoint,
        wish: Wish,
        until: Until,
        cpu: Option<u32>,
    ) -> Result<Self, Error> {
        let (note, gate) = (Notification::create()?, Notification::create()?);
        let grants: [Grant<'_>; 3] = [
            grant("next", next, CapRights::CALL),
            grant("note", *note, CapRights::SIGNAL),
            grant("gate", *gate, CapRights::WAIT),
        ];
        let (word, ms) = wish.word();
        let until = if until == Until::Spending { "spending" } else { "idle" };
        let mut arguments = format!("role=client ask={word} ms={ms} until={until}");
        if let Some(cpu) = cpu {
            arguments += &format!(" cpu={cpu}");
        }
        let domain = tools.start_with(means, &arguments, &grants)?;
        Ok(Self { domain, note, gate })
    }

    /// Has it call.
    pub(crate) fn ask(&self) -> Result<(), Error> {
        self.gate.signal(1)
    }

    /// Waits until the call is over; it must have ended like this.
    pub(crate) fn until_over(&self, expected: u64) -> Run {
        match self.note.wait(Some(Instant::after(PATIENCE)))? {
            bits if bits == expected => Ok(()),
            bits => Err(Stop::failed(format_args!("a call ended with {bits} instead of {expected}"))),
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.domain.stop();
    }
}
