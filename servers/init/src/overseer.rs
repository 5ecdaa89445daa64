//! The `supervisor` protocol on top of the fleet.

use crate::doom;
use crate::fleet::{Fleet, StartError};
use init::grants::has_power;
use libpks::abi::name;
use libpks::manifest::{INIT, Powers};
use libpks::proto::Protocol;
use libpks::proto::supervisor::{
    Condition, LIST_SERVERS, Moment, Refusal, Reply, Request, ServerInfo, Supervisor,
};
use libpks::rt::{Caller, Instant, Server};

/// Serves the protocol.
pub(crate) struct Overseer {
    fleet: Fleet,
}

impl Server for Overseer {
    type Protocol = Supervisor;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        self.answer(caller, request).unwrap_or_else(Reply::Refused)
    }
}

impl Overseer {
    pub(crate) const fn new(fleet: Fleet) -> Self {
        Self { fleet }
    }

    fn answer(&mut self, caller: &Caller, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::List { from } => Ok(self.list(from)),
            Request::Fault(name) if name == INIT => Ok(Reply::Fault(self.fleet.own_fault().cloned())),
            Request::Fault(name) => {
                let server = self.fleet.server(self.find(&name)?).ok_or(Refusal::UnknownServer)?;
                Ok(Reply::Fault(server.fault.as_deref().cloned()))
            }
            Request::Attend if caller.is_self() => {
                Ok(Reply::Attended(self.fleet.attend().map_or(0, Instant::as_nanos)))
            }
            Request::Attend => Err(Refusal::NotYours),
            Request::Start(name) => {
                let n = self.find_managed(caller, &name)?;
                self.start(n)
            }
            Request::Stop(name) => {
                let n = self.find_managed(caller, &name)?;
                let ran = self.fleet.stop(n).map_err(Refusal::Kernel)?;
                if ran { Ok(Reply::Done) } else { Err(Refusal::NotRunning) }
            }
            Request::Restart(name) => {
                let n = self.find_managed(caller, &name)?;
                started(self.fleet.restart(n))
            }
            Request::Die(moment, death) => {
                let may = |power| has_power(&self.fleet.manifest, Supervisor::NAME, caller.badge, power);
                if !may(Powers::SUPERVISE) || !may(Powers::SELF_TEST) {
                    return Err(Refusal::NotYours);
                }
                doom::choose(moment, death);
                doom::strike(Moment::Now);
                Ok(Reply::Done)
            }
        }
    }

    fn start(&mut self, n: usize) -> Result<Reply, Refusal> {
        if self.fleet.server(n).is_some_and(|server| server.is_running()) {
            return Err(Refusal::Running);
        }
        started(self.fleet.start(n))
    }

    fn list(&self, from: u32) -> Reply {
        let restarts = self.fleet.own_restarts();
        let init = ServerInfo { name: name(INIT), condition: Condition::Running, restarts };
        let others = self.fleet.servers().map(|(entry, server)| ServerInfo {
            name: name(&entry.name),
            condition: server.condition(),
            restarts: server.restarts,
        });
        let all = core::iter::once(init).chain(others);
        Reply::Servers(all.skip(from as usize).take(LIST_SERVERS).collect())
    }

    fn find(&self, name: &str) -> Result<usize, Refusal> {
        self.fleet.find(name).ok_or(Refusal::UnknownServer)
    }

    /// The server with this name, if the caller may start and stop servers. `init` itself is not one of them.
    fn find_managed(&self, caller: &Caller, name: &str) -> Result<usize, Refusal> {
        if !has_power(&self.fleet.manifest, Supervisor::NAME, caller.badge, Powers::SUPERVISE) || name == INIT
        {
            return Err(Refusal::NotYours);
        }
        self.find(name)
    }
}

fn started(outcome: Result<(), StartError>) -> Result<Reply, Refusal> {
    outcome.map(|()| Reply::Done).map_err(|error| Refusal::Kernel(error.cause()))
}
