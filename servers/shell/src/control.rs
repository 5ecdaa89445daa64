//! Commands that change something: servers and power.

use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Write;
use libpks::abi::Name;
use libpks::abi::fault::FaultReport;
use libpks::abi::inspect::PowerAction;
use libpks::proto::supervisor::{Refusal, Reply, Request, ServerInfo, Supervisor};
use libpks::rt::{Env, Power};

/// All servers that the supervisor knows.
pub(crate) fn servers(env: &Env) -> Result<Vec<ServerInfo>, Trouble> {
    let supervisor = env.client::<Supervisor>()?;
    let mut servers = Vec::new();
    loop {
        match supervisor.call_patiently(&Request::List { from: servers.len() as u32 }, None)? {
            Reply::Servers(part) if part.is_empty() => return Ok(servers),
            Reply::Servers(part) => servers.extend(part),
            _ => return Err(Trouble::OtherReply),
        }
    }
}

/// The fault that ended a server last, as its supervisor remembers it.
pub(crate) fn last_fault(env: &Env, server: &str) -> Result<Option<FaultReport>, Trouble> {
    match env.client::<Supervisor>()?.call_patiently(&Request::Fault(name(server)?), None)? {
        Reply::Fault(report) => Ok(report),
        Reply::Refused(refusal) => Err(Trouble::Refused(refusal.to_string())),
        _ => Err(Trouble::OtherReply),
    }
}

pub(crate) fn start(env: &Env, screen: &mut Screen, server: &str) -> Result<(), Trouble> {
    ask(env, &Request::Start(name(server)?))?;
    let _ = writeln!(screen, "{server} started");
    Ok(())
}

pub(crate) fn stop(env: &Env, screen: &mut Screen, server: &str) -> Result<(), Trouble> {
    ask(env, &Request::Stop(name(server)?))?;
    let _ = writeln!(screen, "{server} stopped");
    Ok(())
}

pub(crate) fn restart(env: &Env, screen: &mut Screen, server: &str) -> Result<(), Trouble> {
    ask(env, &Request::Restart(name(server)?))?;
    let _ = writeln!(screen, "{server} restarted");
    Ok(())
}

pub(crate) fn power(env: &Env, screen: &mut Screen, action: PowerAction) -> Result<(), Trouble> {
    let power: Power = env.capability("power")?;
    screen.flush();
    Ok(power.act(action)?)
}

fn ask(env: &Env, request: &Request) -> Result<(), Trouble> {
    match env.client::<Supervisor>()?.call(request)? {
        Reply::Done => Ok(()),
        Reply::Refused(refusal) => Err(Trouble::Refused(refusal.to_string())),
        _ => Err(Trouble::OtherReply),
    }
}

/// A name that is too long is nobody's.
fn name(text: &str) -> Result<Name, Trouble> {
    text.try_into().map_err(|_| Trouble::Refused(Refusal::UnknownServer.to_string()))
}
