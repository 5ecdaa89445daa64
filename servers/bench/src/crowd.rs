//! Many domains, each of which answers calls at an endpoint of its own: as many as there is memory for. The bench measures
//! among them, and the system of `boot/crowd.toml` has all of them answer on all CPUs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::inspect::{DomainInfo, DomainState, SystemInfo};
use libpks::abi::message::WORDS;
use libpks::rt::domain::Placement;
use libpks::rt::log::info;
use libpks::rt::serve::{self, WordServer};
use libpks::rt::thread::spawn;
use libpks::rt::{Domain, Endpoint, Env, EnvError, Error, Inspect, Notification, Owned, Thread, time};

use crate::peer;
use crate::rows::Tools;

/// The name of a member.
const NAME: &str = "member";
/// The endpoint that it serves.
const ENDPOINT: &str = "member";
/// More than anybody has had in one address space.
const MOST: usize = 4096;
/// How many end at once, and how long it takes until others do.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(10);
/// How often each CPU calls each member.
const ROUNDS: u64 = 2;
/// Bytes of the stacks of a member, and of each caller.
const STACK: u64 = 16 * 1024;

/// Domains that live, each with its endpoint.
pub(crate) struct Crowd {
    members: Vec<(Owned<Domain>, Owned<Endpoint>)>,
    here: Owned<Notification>,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { members: Vec::new(), here: Notification::create()? })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Makes one more, and waits until it serves.
    pub(crate) fn add(&mut self, tools: &Tools, placement: Placement) -> Result<(), Error> {
        let endpoint = Endpoint::create()?;
        let role = format!("role=member number={}", self.len());
        let serves = [(ENDPOINT, *endpoint)];
        let domain = tools.start(tools.small(NAME, placement)?, &role, &serves, *self.here, STACK)?;
        self.members.push((domain, endpoint));
        Ok(())
    }

    /// Ends the last.
    pub(crate) fn remove(&mut self) {
        self.members.pop();
    }

    /// Makes more until there are so many.
    pub(crate) fn grow_to(&mut self, tools: &Tools, count: usize) -> Result<(), Error> {
        while self.len() < count {
            self.add(tools, Placement::Anywhere)?;
        }
        Ok(())
    }

    /// Makes as many as there is memory for, [`MOST`] at most.
    fn fill(&mut self, tools: &Tools) -> Result<(), Error> {
        match self.grow_to(tools, MOST) {
            Err(Error::QuotaExceeded) if self.len() > 0 => Ok(()),
            outcome => outcome,
        }
    }

    /// Their endpoints, in order.
    fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(|(_, endpoint)| **endpoint).collect()
    }

    /// Calls the one with a number, which must say so.
    pub(crate) fn call(&self, number: usize) -> Result<(), Error> {
        let (_, endpoint) = self.members.get(number).ok_or(Error::NotFound)?;
        ask(**endpoint, number as u64, 0)
    }
}

/// Each end is a line in the log. They come no faster than the console reads it, so that nothing else is lost there.
impl Drop for Crowd {
    fn drop(&mut self) {
        while !self.members.is_empty() {
            // The last one first: slots are given out again in the other order, so that the next crowd has each in the view that
            // has shown it before.
            for _ in 0..AT_ONCE {
                self.remove();
            }
            // Asleep or not, they go.
            let _ = time::sleep(PAUSE);
        }
    }
}

/// What a member answers: its number and the words that came, each plus its number.
struct Numbered(u64);

impl WordServer for Numbered {
    fn handle(&self, _badge: u64, words: [u64; WORDS]) -> [u64; WORDS] {
        words.map(|word| word.wrapping_add(self.0))
    }
}

/// Asks a member; the words differ with each question.
fn ask(endpoint: Endpoint, number: u64, salt: u64) -> Result<(), Error> {
    let words = [salt, !salt, salt << 32, 1, 2, 3, 4, number << 16];
    let answer = endpoint.call_words(words, None)?;
    if answer == words.map(|word| word.wrapping_add(number)) { Ok(()) } else { Err(Error::BadMessage) }
}

/// A member's part.
pub(crate) fn serve(env: &Env) -> Result<(), EnvError> {
    let number = env.arg("number").and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    serve::start_words(env.endpoint(ENDPOINT)?, Numbered(number), 1, STACK)
        .unwrap_or_else(|error| panic!("cannot serve: {error}"));
    peer::announce(env)?;
    serve::park()
}

/// What went wrong, in words.
type Run<T = ()> = Result<T, String>;

/// Says what was done when an error came.
fn at<T>(what: &str, outcome: Result<T, Error>) -> Run<T> {
    outcome.map_err(|error| format!("{what}: {error}"))
}

/// Fills the machine with domains that all answer, on all CPUs; ends them; and does it again, which must leave no more
/// memory taken than the first time did.
pub(crate) fn exercise(tools: &Tools, inspect: Inspect) -> Run {
    let (domain_kib, view_kib) = costs(tools, inspect)?;
    let first = once(tools, inspect)?;
    let left = system(inspect)?.frames_free;
    let again = once(tools, inspect)?;
    let left_again = system(inspect)?.frames_free;
    if left_again < left || again.0 < first.0 {
        return Err(format!(
            "{left_again} frames are free instead of {left}; {} instead of {}",
            again.0, first.0
        ));
    }
    let (count, calls) = first;
    let SystemInfo { views, cpus, .. } = system(inspect)?;
    info!(
        "crowd: {count} domains in {views} views answered {calls} calls on {cpus} CPUs; \
         {domain_kib} KiB a domain, {view_kib} KiB a view"
    );
    Ok(())
}

fn system(inspect: Inspect) -> Run<SystemInfo> {
    at("no look at the system", inspect.system())
}

/// How many KiB of memory a member takes in a view that is there, and how many more in a new one.
fn costs(tools: &Tools, inspect: Inspect) -> Run<(u64, u64)> {
    let mut crowd = at("no notification", Crowd::new())?;
    let mut taken = |placement| {
        let before = system(inspect)?.frames_free;
        at("no domain", crowd.add(tools, placement))?;
        Ok::<_, String>((before - system(inspect)?.frames_free) * 4)
    };
    // What the first ones take besides is there afterwards: the kernel's tables and the heap grow page by page.
    let mut least = |placement| {
        (0..3).map(|_| taken(placement)).try_fold(u64::MAX, |least, one| Ok::<_, String>(least.min(one?)))
    };
    let (here, empty) = (least(Placement::Here)?, least(Placement::Empty)?);
    Ok((here, empty.saturating_sub(here)))
}

/// As many domains as there is room for, calls to all of them, and their end. Gives how many, and how many calls.
fn once(tools: &Tools, inspect: Inspect) -> Run<(usize, u64)> {
    let mut crowd = at("no notification", Crowd::new())?;
    let filled = crowd.fill(tools);
    at(&format!("after {} domains", crowd.len()), filled)?;
    look(&crowd, inspect)?;
    let cpus = u64::from(system(inspect)?.cpus);
    let callers = (0..cpus).map(|cpu| {
        let endpoints = crowd.endpoints();
        at("no thread", spawn(STACK, tools.priority.saturating_sub(1), move || call_all(&endpoints, cpu)))
    });
    // All are started before one is waited for.
    let callers: Vec<_> = callers.collect::<Run<_>>()?;
    let mut calls = 0;
    for caller in callers {
        calls += at("a caller ended", caller.join(None))??;
    }
    Ok((crowd.len(), calls))
}

/// One CPU's calls; each begins somewhere else.
fn call_all(endpoints: &[Endpoint], cpu: u64) -> Run<u64> {
    let count = endpoints.len();
    at("not on its CPU", Thread::current().and_then(|thread| thread.bind(Some(cpu as u32))))?;
    for n in 0..count * ROUNDS as usize {
        let number = (n + cpu as usize * count / 7) % count;
        let called = endpoints.get(number).ok_or(Error::NotFound);
        let answered = called.and_then(|&endpoint| ask(endpoint, number as u64, n as u64));
        at(&format!("member {number}"), answered)?;
    }
    Ok(ROUNDS * count as u64)
}

/// All members run, and no two have one key in one view.
fn look(crowd: &Crowd, inspect: Inspect) -> Run {
    let mut seen = Vec::with_capacity(crowd.len());
    for domain in inspect.domains() {
        let DomainInfo { name, state, view, key, .. } = at("no look at the domains", domain)?;
        if name == NAME && state == DomainState::Running {
            seen.push((view, key));
        }
    }
    if seen.len() != crowd.len() {
        return Err(format!("{} members run, {} were made", seen.len(), crowd.len()));
    }
    seen.sort_unstable();
    match seen.windows(2).find(|pair| matches!(pair, [one, other] if one == other)) {
        Some(twins) => Err(format!("two members have the same view and key: {twins:?}")),
        None => Ok(()),
    }
}
