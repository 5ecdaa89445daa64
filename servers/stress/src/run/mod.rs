//! A run: draws steps, carries them out, compares what comes of them.

mod steps;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use libpks::abi::Error;
use libpks::abi::fault::{FaultAccess, FaultKind};
use libpks::abi::layout::PAGE;
use libpks::model::generator::{self, LIMITS};
use libpks::model::{Access, After, Give, Model, Region, Step, View};
use libpks::proto::stress::{Session, Tally, Words};
use libpks::rt::{Key, Owned, text};

use crate::check::{self, Words as Expected};
use crate::crew::{Crew, Tools};
use crate::errand::{Answer, Borrowing, Command, Seen};
use crate::spinner::Spinners;
use steps::number;

/// How long the spinners have the machine for themselves after a step.
const PAUSE: Duration = Duration::from_micros(200);
/// Steps between two rounds in which every thread reads every region that it may.
const ROUND: u32 = 16;

/// How a run failed.
#[derive(Debug)]
pub struct Failure {
    /// The step, from 1.
    pub step: u32,
    /// What was expected and seen.
    pub words: Words,
}

/// What a part of a run gives; the words say what went wrong.
pub(crate) type Run<T = ()> = Result<T, String>;

/// A part of a run failed.
pub(crate) fn wrong<T>(words: fmt::Arguments<'_>) -> Run<T> {
    Err(alloc::fmt::format(words))
}

/// The state of a run: the model, and what its numbers are to the kernel.
pub(crate) struct Stage {
    pub(crate) tools: Tools,
    pub(crate) cpus: u32,
    pub(crate) model: Model,
    pub(crate) crew: Crew,
    /// Number and hardware key of each domain.
    pub(crate) domains: Vec<(u32, u8)>,
    /// Handle of each capability.
    pub(crate) caps: Vec<u64>,
    /// Address of each region.
    pub(crate) regions: Vec<u64>,
    /// Number of each thread.
    pub(crate) threads: Vec<u32>,
    /// Each key and its hardware key.
    pub(crate) keys: Vec<(Option<Owned<Key>>, u8)>,
    pub(crate) tally: Tally,
}

/// Runs a session. `own_name` is the name of the domain that this is.
///
/// # Errors
/// The first thing that did not come as it must, in words; the tally says what was done until then.
pub fn run(tools: &Tools, own_name: &str, session: &Session) -> (Tally, Result<(), Failure>) {
    let before = tools.inspect.system().map(|system| system.keys_free);
    let mut step = 0;
    let mut tally = Tally::default();
    let outcome = conduct(tools, own_name, session, &mut step, &mut tally)
        // Everything was dropped: all keys must be back.
        .and_then(|()| match (before, tools.inspect.system().map(|system| system.keys_free)) {
            (Ok(before), Ok(after)) if before == after => Ok(()),
            (before, after) => wrong(format_args!("{before:?} keys free before, {after:?} after")),
        });
    (tally, outcome.map_err(|words| Failure { step, words: text::cut(format_args!("{words}")) }))
}

fn conduct(tools: &Tools, own_name: &str, session: &Session, number: &mut u32, tally: &mut Tally) -> Run {
    let mut rng = fastrand::Rng::with_seed(session.seed);
    let spinners = Spinners::start(tools).map_err(|error| unready("spinners", error))?;
    let _aside = set_aside(tools, session).map_err(|error| unready("keys", error))?;
    let mut stage = Stage::new(tools, own_name, usize::from(session.workers))
        .map_err(|error| unready("domains", error))?;
    let outcome = (0..session.steps).try_for_each(|_| {
        *number += 1;
        let step = generator::next(&mut rng, &stage.model, &LIMITS);
        let done = stage.step(&step, *number).and_then(|()| match spinners.trouble() {
            Some(words) => Err(String::from(words.as_str())),
            None => Ok(()),
        });
        done.map_err(|words| alloc::format!("{step:?}: {words}"))
    });
    stage.tally.spins = spinners.rounds();
    *tally = stage.tally.clone();
    outcome.and_then(|()| stage.leave())
}

/// Takes the keys that the session does not want.
fn set_aside(tools: &Tools, session: &Session) -> Result<Vec<Owned<Key>>, Error> {
    let mut aside = Vec::new();
    while tools.inspect.system()?.keys_free > session.workers.saturating_add(session.keys) {
        aside.push(tools.keys.allocate()?.0);
    }
    Ok(aside)
}

fn unready(what: &str, error: Error) -> String {
    alloc::format!("cannot make the {what}: {error}")
}

impl Stage {
    fn new(tools: &Tools, own_name: &str, workers: usize) -> Result<Self, Error> {
        let system = tools.inspect.system()?;
        let crew = Crew::new(tools, workers)?;
        let own = tools.domain(own_name)?;
        let mut stage = Self {
            tools: *tools,
            cpus: system.cpus,
            model: Model::new(workers + 1, usize::from(system.keys_free)),
            crew,
            domains: Vec::from([(own.id, own.key.unwrap_or(0))]),
            caps: Vec::new(),
            regions: Vec::new(),
            threads: Vec::new(),
            keys: Vec::new(),
            tally: Tally::default(),
        };
        for worker in 1..=workers {
            stage.domains.push((0, 0));
            stage.look_up(worker)?;
        }
        Ok(stage)
    }

    /// Deletes what domain 0 still holds.
    fn leave(&mut self) -> Run {
        for cap in 0..self.caps.len() {
            if self.model.cap(cap).is_some_and(|cap| cap.domain == 0) {
                let deleted = self.tell(0, &Command::Delete(self.caps[cap]));
                self.same("the end of a capability", deleted, Ok(()))?;
            }
        }
        Ok(())
    }

    /// Asks for the number and key of a worker.
    fn look_up(&mut self, worker: usize) -> Result<(), Error> {
        let info = self.tools.domain(&self.crew.worker(worker)?.name)?;
        self.domains[worker] = (info.id, info.key.unwrap_or(0));
        Ok(())
    }

    /// One step, and the comparison after it.
    fn step(&mut self, step: &Step, number: u32) -> Run {
        self.tally.steps += 1;
        self.tally.count(step.kind(), 1);
        let (before, done) = match *step {
            Step::Lend { cap, to, read_only, access, global } => {
                (self.lend(step, (cap, to, read_only), access, global)?, *step)
            }
            Step::Touch { thread, region, write, after } => {
                let before = self.model.clone();
                self.touch(thread, region, write, after)?;
                self.model.commit(step);
                (before, *step)
            }
            _ => self.operate(step)?,
        };
        // On a single CPU they would not get their turn else.
        let _ = libpks::rt::time::sleep(PAUSE);
        check::closed(self, &before, &done)?;
        check::all(self)?;
        if number.is_multiple_of(ROUND) { self.read_all() } else { Ok(()) }
    }

    /// A step that is one operation. Gives the model as it was before, and what came of the step.
    fn operate(&mut self, step: &Step) -> Run<(Model, Step)> {
        let before = self.model.clone();
        let errors = self.model.errors(step);
        let outcome = self.carry_out(step);
        let done = match (self.expect(&errors, outcome.map(Some))?, *step) {
            (Some(()), _) => *step,
            // The runtime deletes what could not be handed over.
            (None, Step::Give { cap, how: Give::Move, .. }) if self.model.cap(cap).is_some() => {
                Step::Delete { cap }
            }
            (None, _) => return Ok((before, *step)),
        };
        self.model.commit(&done);
        Ok((before, done))
    }

    /// Compares an outcome with what it may be: the value if it was to be done and was.
    fn expect<T>(&mut self, errors: &[Error], outcome: Result<Option<T>, Error>) -> Run<Option<T>> {
        self.tally.checks += 1;
        match outcome {
            Ok(value) if errors.is_empty() => Ok(value),
            Err(error) if errors.contains(&error) => {
                self.tally.refused += 1;
                Ok(None)
            }
            Ok(_) => wrong(format_args!("it was done, and had to be refused: {errors:?}")),
            Err(error) => {
                wrong(format_args!("refused: {error:?}, expected {errors:?} of {}", self.keys_in_words()))
            }
        }
    }

    fn keys_in_words(&self) -> String {
        alloc::format!("{} keys left", self.model.keys_left())
    }

    /// Lends a region for a call. Gives the model as it was when the loan ended.
    fn lend(
        &mut self,
        step: &Step,
        (cap, to, read_only): (usize, usize, bool),
        access: Access,
        global: bool,
    ) -> Run<Model> {
        let errors = self.model.errors(step);
        let region = self.model.caps[cap].region;
        let value = self.model.next_value();
        let how = Borrowing { access: number(access), global, address: self.regions[region], value };
        let sent = libpks::rt::Offer::lend(crate::subject::region(self.caps[cap]));
        let sent = if read_only { sent.read_only() } else { sent };
        let outcome = self.crew.worker(to).and_then(|worker| worker.exchange(&Command::Borrow(how), &[sent]));
        let Some((answer, _)) = self.expect(&errors, outcome.map(Some))? else {
            return Ok(self.model.clone());
        };
        let Answer::Borrowed(used) = answer else {
            return wrong(format_args!("no answer of a borrower: {answer:?}"));
        };
        let lent = self.model.lend(cap, to, read_only);
        // Its handle is not known here; nobody will name it again.
        self.caps.push(0);
        let errors = self.model.borrower_errors(lent, access);
        if let Some(found) = self.expect(&errors, used.map(Some))? {
            self.same("the word that the borrower found", found, self.model.regions[region].value)?;
            self.model.regions[region].closed = false;
            if access == Access::Write {
                self.model.regions[region].value = value;
            }
            if global {
                self.model.commit(&Step::Global { cap: lent, access });
            }
        }
        let before = self.model.clone();
        self.model.end_loan(lent);
        Ok(before)
    }

    pub(crate) fn same<T: PartialEq + fmt::Debug>(&mut self, what: &str, seen: T, expected: T) -> Run {
        self.tally.checks += 1;
        if seen == expected {
            Ok(())
        } else {
            wrong(format_args!("{what}: {seen:x?} instead of {expected:x?}"))
        }
    }

    /// A real access of a thread, whether it may or not.
    fn touch(&mut self, thread: usize, region: usize, write: bool, after: After) -> Run {
        let wanted = if write { Access::Write } else { Access::Read };
        let value = if write { self.model.next_value() } else { self.model.regions[region].value };
        let address = self.regions[region];
        let command = if write {
            Command::Write(thread as u32, address, value)
        } else {
            Command::Read(thread as u32, address)
        };
        let domain = self.home(thread);
        let expected = self.fault(thread, region, write)?;
        if !self.model.regions[region].alive && expected.key.is_some() {
            // Another region lies there by now.
            let killed = self.tell(domain, &Command::Kill(thread as u32));
            return self.same("the end of the thread", killed, Ok(()));
        }
        let answer = self.crew.run(domain, &command);
        if View::of(&self.model).may(thread, region) >= wanted {
            return self.same("an access that is allowed", answer, Ok(Answer::Value(value)));
        }
        self.tally.faults += 1;
        self.same("an access that is forbidden", answer, Ok(Answer::Fault(expected)))?;
        match after {
            After::Kill => {
                let killed = self.tell(domain, &Command::Kill(thread as u32));
                self.same("the end of the thread", killed, Ok(()))
            }
            After::Mend(cap) => {
                let command =
                    Command::Mend { thread: thread as u32, handle: self.caps[cap], access: number(wanted) };
                let mended = self.crew.run(domain, &command);
                self.same("the access after its rights were set", mended, Ok(Answer::Value(value)))
            }
        }
    }

    /// The report of a fault if a thread accesses a region now.
    fn fault(&self, thread: usize, region: usize, write: bool) -> Run<Seen> {
        let address = self.regions[region];
        let key = check::page_key(self, address)?;
        let word = Expected::of(self)?.thread(self, &View::of(&self.model), thread);
        let kind = match key {
            Some(_) => FaultKind::ProtectionKey,
            // A region that nobody holds any more is there, and in nobody's view.
            None if self.is_region(address) => FaultKind::OtherView,
            None => FaultKind::NotMapped,
        };
        // Bits 0 present, 1 write, 5 key (Intel SDM vol. 3A, 4.7).
        let code = u32::from(write) << 1 | if key.is_some() { 0x21 } else { 0 };
        Ok(Seen {
            kind,
            access: if write { FaultAccess::Write } else { FaultAccess::Read },
            address,
            code,
            key,
            pkrs: word,
            live: word,
            domain: self.domains[self.home(thread)].0,
            thread: self.threads[thread],
        })
    }

    /// Whether a region that is there covers an address.
    fn is_region(&self, address: u64) -> bool {
        let covers = |(region, start): (&Region, &u64)| {
            region.alive && (*start..*start + region.pages * PAGE).contains(&address)
        };
        self.model.regions.iter().zip(&self.regions).any(covers)
    }

    /// Every thread reads every region that it may.
    fn read_all(&mut self) -> Run {
        for thread in
            (0..self.threads.len()).filter(|&thread| self.model.threads[thread].alive).collect::<Vec<_>>()
        {
            let view = View::of(&self.model);
            let may = |region: &usize| view.may(thread, *region) > Access::Nothing;
            let regions: Vec<usize> = (0..self.regions.len()).filter(may).collect();
            for region in regions {
                let command = Command::Read(thread as u32, self.regions[region]);
                let answer = self.crew.run(self.home(thread), &command);
                let value = self.model.regions[region].value;
                self.same("an access that is allowed", answer, Ok(Answer::Value(value)))?;
            }
        }
        Ok(())
    }
}
