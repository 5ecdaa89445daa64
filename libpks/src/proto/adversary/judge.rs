//! Has a crime committed, and looks from outside at what came of it.

use super::{Adversary, Aim, Consequence, Crime, FORGED, Reply, Request, SERVER, Sentence};
use crate::abi::fault::FaultReport;
use crate::abi::inspect::{DomainInfo, DomainState, PlaceInfo};
use crate::abi::layout::{
    CONTEXTS_OFFSET, HEAP_OFFSET, IMAGE_OFFSET, IPC_BUFFER_OFFSET, PAGE, STACK_TOP_OFFSET,
};
use crate::abi::{Error, Name, layout, name};
use crate::proto::supervisor::{self, Supervisor};
use crate::rt::{CallError, Client, Env, EnvError, Inspect, Instant, KernelLog, Offer, Owned, Region, time};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// How long the adversary may take until it answers again, and how long until a fault behind a reply is there.
const PATIENCE: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(5);
/// What lies where crimes against the judge aim.
const SECRET: u64 = 0x7465_7374_6c69_6e6b;
/// From the second word on it looks like the end of a chain of frame pointers.
const INTACT: [u64; 3] = [SECRET, 0, SECRET];
/// How often the judge reads from a region that the adversary changes meanwhile.
const READS: u32 = 20_000;
const READS_IN_A_ROW: u32 = 500;
/// What every domain has first of all: the stack and the IPC buffer of its first thread, its heap.
const PRIVATE: [u64; 3] =
    [CONTEXTS_OFFSET + STACK_TOP_OFFSET - 8, CONTEXTS_OFFSET + IPC_BUFFER_OFFSET, HEAP_OFFSET];

/// Why a crime could not be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel refused the judge something.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// A call failed.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The adversary knows no such crime.
    #[error("no such crime")]
    UnknownCrime,
    /// The supervisor does not restart the adversary.
    #[error("the supervisor refuses")]
    Refused,
    /// There is nothing of the sort that the crime aims at.
    #[error("nothing to aim at")]
    NoAim,
}

/// What came of a crime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// How often it was committed: once for each aim.
    pub attempts: u32,
    /// The first consequence that is not as it must be, else the last.
    pub consequence: Consequence,
    /// Whether that is what must come of it.
    pub stopped: bool,
}

/// Who has crimes committed.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    adversary: Client<Adversary>,
    supervisor: Client<Supervisor>,
    inspect: Inspect,
    log: KernelLog,
}

impl Judge {
    /// One with the capabilities that a judge needs: to call the adversary and a supervisor that lets it start and stop,
    /// to inspect, to read the log.
    ///
    /// # Errors
    /// [`EnvError`].
    pub fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            adversary: env.client()?,
            supervisor: env.client()?,
            inspect: env.capability("inspect")?,
            log: env.capability("log")?,
        })
    }

    /// Has a crime committed, against each of its aims.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn judge(&self, crime: &Crime) -> Result<Trial, Failure> {
        let witness = core::hint::black_box(INTACT);
        let region = Region::create(PAGE, None)?;
        let targets = self.targets(crime, &witness, *region)?;
        let mut trial = Trial { attempts: 0, consequence: Consequence::Succeeded, stopped: false };
        for target in targets {
            let running = self.running()?;
            trial.attempts += 1;
            trial.consequence = self.attempt(crime, target, &witness, &region)?;
            trial.stopped = crime.is_punished_by(&trial.consequence, &running);
            if !trial.stopped {
                break;
            }
        }
        Ok(trial)
    }

    fn attempt(
        &self,
        crime: &Crime,
        target: u64,
        witness: &[u64; 3],
        region: &Owned<Region>,
    ) -> Result<Consequence, Failure> {
        let before = self.others()?;
        let logged = self.log.read(u64::MAX)?.next;
        let asked_ns = Instant::now().as_nanos();
        let consequence = self.commit(crime, target, witness, **region, asked_ns)?;
        let harmed = self.harmed(&before)?;
        self.fresh_adversary()?;
        Ok(match harmed {
            _ if core::hint::black_box(*witness) != INTACT => Consequence::Harmed(name("judge")),
            Some(name) => Consequence::Harmed(name),
            None if self.is_forged(logged)? => Consequence::Forged,
            None => consequence,
        })
    }

    fn commit(
        &self,
        crime: &Crime,
        target: u64,
        witness: &[u64; 3],
        region: Region,
        asked_ns: u64,
    ) -> Result<Consequence, Failure> {
        let request = Request::Commit { name: name(crime.name), target, witness: address_of(witness) };
        let offers = offer(crime.aim, region);
        let there = matches!(crime.sentence, Sentence::EndsThere(_)).then_some(target);
        Ok(match self.adversary.exchange(&request, offers.as_slice(), None).map(|(reply, _)| reply) {
            Ok(Reply::Refused(error)) => Consequence::Refused(error),
            Ok(Reply::Gained(what)) => Consequence::Gained(what),
            Ok(Reply::Succeeded) if crime.aim.is_after_reply() => {
                // A loan has ended by itself.
                if crime.aim == Aim::RevokedRegion {
                    use crate::rt::Capability;
                    region.revoke()?;
                }
                self.fault_behind_reply(target, asked_ns)?
            }
            Ok(Reply::Succeeded) if crime.aim == Aim::SharedRegion => read_shared(region)?,
            Ok(Reply::Succeeded) => Consequence::Succeeded,
            Ok(Reply::UnknownCrime) => return Err(Failure::UnknownCrime),
            Err(CallError::Failed(Error::PeerDiedMidCall)) => {
                let report = self.inspect.fault(0)?.filter(|report| report.time_ns >= asked_ns);
                report.map_or(Consequence::EndedUnreported, |report| ended(report, there))
            }
            Err(error) => return Err(error.into()),
        })
    }

    /// Waits for a fault at an address, later than `since_ns`.
    fn fault_behind_reply(&self, address: u64, since_ns: u64) -> Result<Consequence, Failure> {
        let until = Instant::after(PATIENCE);
        while Instant::now() < until {
            let report = self.inspect.fault(0)?.filter(|new| new.time_ns >= since_ns);
            if let Some(report) = report {
                return Ok(ended(report, Some(address)));
            }
            let _ = time::sleep(LOOK);
        }
        Ok(Consequence::Succeeded)
    }

    /// The other domains that run.
    fn others(&self) -> Result<Vec<DomainInfo>, Error> {
        let mut domains = self.running()?;
        domains.retain(|domain| domain.name != SERVER);
        Ok(domains)
    }

    fn running(&self) -> Result<Vec<DomainInfo>, Error> {
        let mut domains = self.inspect.domains().collect::<Result<Vec<_>, _>>()?;
        domains.retain(|domain| domain.state == DomainState::Running);
        Ok(domains)
    }

    /// Which of the others does not run any more as the domain that it was.
    fn harmed(&self, before: &[DomainInfo]) -> Result<Option<Name>, Error> {
        let after = self.others()?;
        let same = |old: &DomainInfo| after.iter().any(|new| (new.id, &new.name) == (old.id, &old.name));
        Ok(before.iter().find(|old| !same(old)).map(|old| old.name.clone()))
    }

    /// Whether the log has got control characters, or what the adversary wrote as if somebody else had.
    fn is_forged(&self, mut position: u64) -> Result<bool, Error> {
        let mut text = Vec::new();
        loop {
            let piece = self.log.read(position)?;
            if piece.bytes.is_empty() {
                break;
            }
            position = piece.next;
            text.extend(piece.bytes);
        }
        let text = alloc::string::String::from_utf8_lossy(&text);
        let is_own = |line: &str| {
            let source = line.split_once("] ").map_or("", |(_, rest)| rest);
            ["adversary ", "fault "].iter().any(|name| source.starts_with(name))
        };
        Ok(text.lines().any(|line| line.contains(char::is_control) || line.contains(FORGED) && !is_own(line)))
    }

    /// The addresses, or other numbers, that a crime is aimed at.
    fn targets(&self, crime: &Crime, witness: &[u64; 3], region: Region) -> Result<Vec<u64>, Failure> {
        let targets = match crime.aim {
            Aim::Nothing => vec![0],
            Aim::Caller => vec![address_of(witness)],
            Aim::Numbers(numbers) => numbers.to_vec(),
            Aim::Place(name) => self.places(|place| place.name == name)?,
            Aim::Places(kind) => self.places(|place| place.kind == kind)?,
            Aim::EveryDomain => {
                let domains = self.others()?;
                domains.iter().flat_map(|domain| PRIVATE.map(|offset| domain.base + offset)).collect()
            }
            Aim::EveryText => self.others()?.iter().map(|domain| domain.base + IMAGE_OFFSET).collect(),
            Aim::ReadOnlyRegion | Aim::RevokedRegion | Aim::LentRegion | Aim::SharedRegion => {
                vec![region.info()?.address]
            }
        };
        if targets.is_empty() { Err(Failure::NoAim) } else { Ok(targets) }
    }

    fn places(&self, is_wanted_fn: impl Fn(&PlaceInfo) -> bool) -> Result<Vec<u64>, Error> {
        let mut addresses = Vec::new();
        for n in 0.. {
            match self.inspect.place(n)? {
                Some(place) if is_wanted_fn(&place) => addresses.push(place.address),
                Some(_) => {}
                None => break,
            }
        }
        Ok(addresses)
    }

    /// A new adversary for the next crime; what the last one left running ends.
    fn fresh_adversary(&self) -> Result<(), Failure> {
        let request = supervisor::Request::Restart(name(SERVER));
        if self.supervisor.call(&request)? != supervisor::Reply::Done {
            return Err(Failure::Refused);
        }
        let until = Instant::after(PATIENCE);
        let nothing = Request::Commit { name: Name::new(), target: 0, witness: 0 };
        while Instant::now() < until {
            if let Ok(Reply::UnknownCrime) = self.adversary.call_until(&nothing, until) {
                return Ok(());
            }
            let _ = time::sleep(LOOK);
        }
        Err(Error::TimedOut.into())
    }
}

fn address_of(words: &[u64; 3]) -> u64 {
    (&raw const *words).expose_provenance() as u64
}

/// An end by a fault, which must be at an address if there is one.
fn ended(report: FaultReport, there: Option<u64>) -> Consequence {
    // The first step is where it was, which may be anywhere. The others are return addresses out of its own stack: into its
    // own text, or into the text where it was, if it has made a call there.
    let there_it_was = report.backtrace.first().and_then(|step| layout::slot_of(step.address));
    let is_own = |address: u64| {
        let slot = layout::slot_of(address);
        slot == Some(u64::from(report.domain)) || slot.is_some() && slot == there_it_was
    };
    if report.backtrace.iter().skip(1).any(|step| !is_own(step.address)) {
        return Consequence::Leaked;
    }
    match there {
        Some(address) if report.address != address => Consequence::EndedElsewhere(report),
        _ => Consequence::Ended(report),
    }
}

/// The capability that goes with a crime on a region.
fn offer(aim: Aim, region: Region) -> Option<Offer> {
    match aim {
        Aim::ReadOnlyRegion => Some(Offer::copy(region).read_only()),
        Aim::RevokedRegion | Aim::SharedRegion => Some(Offer::copy(region)),
        Aim::LentRegion => Some(Offer::lend(region)),
        _ => None,
    }
}

/// Reads messages of the form length, bytes out of a region that the adversary changes all the time: what was copied is
/// checked, what was checked is used.
fn read_shared(region: Region) -> Result<Consequence, Error> {
    let open = region.open_read()?;
    let (mut honest, mut lies) = (0_u32, 0_u32);
    for n in 0..READS {
        if n % READS_IN_A_ROW == 0 {
            // Where there is one CPU the adversary gets its turn.
            time::sleep(LOOK)?;
        }
        let length = usize::try_from(open.read_u64(0)?).unwrap_or(usize::MAX);
        let mut bytes = [0; 64];
        match bytes.get_mut(..length) {
            Some(bytes) => {
                open.read(8, bytes)?;
                honest += 1;
            }
            None => lies += 1,
        }
    }
    // Both must have been seen, or nothing was changed meanwhile.
    Ok(if honest > 0 && lies > 0 { Consequence::Succeeded } else { Consequence::Gained(u64::from(lies)) })
}
