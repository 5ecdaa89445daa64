//! A server that dies again and again, and calls to it all along.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use core::time::Duration;

use libpks::abi::{Error, name};
use libpks::proto::adversary::{self, Adversary, Death};
use libpks::proto::supervisor::{self, Supervisor};
use libpks::proto::testlink::{Endured, Persisted, Problem, Reply};
use libpks::rt::thread::{self, JoinHandle};
use libpks::rt::{CallError, Client, Instant, time};

/// Of the thread that makes a server spin: less urgent than the test link itself, which is to stop it.
const SPINNER: u8 = 60;
/// Of the bystander: that of the test link, with which it takes turns.
const BYSTANDER: u8 = 100;
const STACK: u64 = 32 * 1024;
/// How long a server spins before it is stopped.
const SPIN: Duration = Duration::from_millis(2);
/// How long a call, a restart included, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls the server for as long as it is wanted, and counts how its calls end.
struct Bystander {
    wanted: AtomicBool,
    answered: AtomicU32,
    died: AtomicU32,
    other: AtomicU32,
}

impl Bystander {
    fn watch(&self, server: Client<Adversary>) {
        while self.wanted.load(SeqCst) {
            let counter = match server.call(&adversary::Request::Nothing) {
                Ok(adversary::Reply::Refused(Error::WouldBlock)) => &self.answered,
                Err(CallError::Failed(Error::PeerDiedMidCall)) => &self.died,
                _ => &self.other,
            };
            counter.fetch_add(1, SeqCst);
        }
    }
}

/// Has the server die so many times.
///
/// # Errors
/// What the kernel or a server says; `TimedOut` if a call does not come to its end.
pub(crate) fn endure(
    server: Client<Adversary>,
    supervisor: Client<Supervisor>,
    death: Death,
    times: u32,
) -> Result<Endured, Problem> {
    let begun = Instant::now();
    let before = restarts(supervisor)?;
    let bystander = Arc::new(Bystander {
        wanted: AtomicBool::new(true),
        answered: AtomicU32::new(0),
        died: AtomicU32::new(0),
        other: AtomicU32::new(0),
    });
    let watching = Arc::clone(&bystander);
    let watch = thread::spawn(STACK, BYSTANDER, move || watching.watch(server)).map_err(Problem::Kernel)?;
    let mut endured = Endured::default();
    for _ in 0..times {
        if one_death(server, supervisor, death)? == Err(CallError::Failed(Error::PeerDiedMidCall)) {
            endured.deaths += 1;
        } else {
            endured.other += 1;
        }
    }
    bystander.wanted.store(false, SeqCst);
    joined(&watch)?;
    // It serves again when this is over, so that whoever counts then counts all of it.
    match server.call_until(&adversary::Request::Nothing, Instant::after(PATIENCE)) {
        Ok(adversary::Reply::Refused(Error::WouldBlock)) => {}
        _ => endured.other += 1,
    }
    endured.answered = bystander.answered.load(SeqCst);
    endured.died = bystander.died.load(SeqCst);
    endured.other += bystander.other.load(SeqCst);
    endured.restarts = restarts(supervisor)? - before;
    endured.millis = u32::try_from((Instant::now() - begun).as_millis()).unwrap_or(u32::MAX);
    Ok(endured)
}

/// Calls the server patiently. It serves again when this is over.
///
/// # Errors
/// What a server says.
pub(crate) fn persist(
    server: Client<Adversary>,
    supervisor: Client<Supervisor>,
    request: &adversary::Request,
) -> Result<Reply, Problem> {
    let before = restarts(supervisor)?;
    let until = Some(Instant::after(PATIENCE));
    let end = match server.call_patiently(request, until) {
        Ok(_) => Persisted::Answered,
        Err(CallError::Failed(error)) => Persisted::Failed(error),
        Err(CallError::Killer(deaths)) => Persisted::Killer(deaths),
        Err(_) => return Err(Problem::Unexpected),
    };
    server.call_patiently(&adversary::Request::Nothing, until).map_err(crate::agent::problem)?;
    Ok(Reply::Persisted { end, restarts: restarts(supervisor)? - before })
}

type Outcome = Result<adversary::Reply, CallError>;

/// How a call ends that the server does not survive.
fn one_death(
    server: Client<Adversary>,
    supervisor: Client<Supervisor>,
    death: Death,
) -> Result<Outcome, Problem> {
    let request = adversary::Request::Die(death);
    if death != Death::Spin {
        return Ok(server.call_until(&request, Instant::after(PATIENCE)));
    }
    let call = thread::spawn(STACK, SPINNER, move || server.call(&request)).map_err(Problem::Kernel)?;
    loop {
        // It may not have been let in yet: then another call has been ended, and this one goes on.
        time::sleep(SPIN).map_err(Problem::Kernel)?;
        restart(supervisor)?;
        match call.join(Some(Instant::after(10 * SPIN))) {
            Err(Error::TimedOut) => {}
            ended => return ended.map_err(Problem::Kernel),
        }
    }
}

fn joined<T>(thread: &JoinHandle<T>) -> Result<T, Problem> {
    thread.join(Some(Instant::after(PATIENCE))).map_err(Problem::Kernel)
}

fn restart(supervisor: Client<Supervisor>) -> Result<(), Problem> {
    let request = supervisor::Request::Restart(name(adversary::SERVER));
    match supervisor.call(&request).map_err(crate::agent::problem)? {
        supervisor::Reply::Done => Ok(()),
        _ => Err(Problem::Unexpected),
    }
}

/// How often the server was started again.
fn restarts(supervisor: Client<Supervisor>) -> Result<u32, Problem> {
    let servers = match supervisor.call_patiently(&supervisor::Request::List { from: 0 }, None) {
        Ok(supervisor::Reply::Servers(servers)) => servers,
        Ok(_) => return Err(Problem::Unexpected),
        Err(error) => return Err(crate::agent::problem(error)),
    };
    let server = servers.iter().find(|server| server.name == adversary::SERVER);
    server.map(|server| server.restarts).ok_or(Problem::Unexpected)
}
