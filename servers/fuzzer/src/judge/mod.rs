//! The judge: makes workers, one after the other, and after each looks whether the system is what it was.
//!
//! What must hold after a worker: the canary's memory and the judge's own are the same; every other domain has as many
//! threads, capabilities and bytes as before, and there are as many keys, threads and domains ([`books`]); every call has
//! come back, or its domain or thread ended with it, or it waits; none came back with an error that the ABI does not
//! promise. That the kernel lives is seen from its answers.
#![forbid(unsafe_code)]

mod books;
mod own;
mod specimen;

use alloc::string::String;
use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::proto::fuzzer::{Reply, Session, Tally};
use libpks::rt::{BootModule, Client, Env, EnvError, Inspect, KeyPool, Quota, SelfTest, text};

use crate::canary::{Ask, Song, Sung};
use books::{Books, Frames};
use specimen::{Canary, Fate, Specimen};

/// Calls that a worker is to make.
const CALLS: u32 = 400;
/// Words of the judge's own memory that are compared.
const WORDS: usize = 4096;

/// What went wrong, in words.
pub(crate) type Run<T = ()> = Result<T, String>;

/// What domains are made of, and looked at with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) quota: Quota,
    pub(crate) image: BootModule,
    pub(crate) keys: KeyPool,
    pub(crate) inspect: Inspect,
    pub(crate) self_test: SelfTest,
    /// That of workers: less urgent than anybody else.
    pub(crate) priority: u8,
}

/// The server.
pub(crate) struct Judge {
    tools: Tools,
    own: own::Own,
}

/// A run under way.
struct Trial<'a> {
    tools: &'a Tools,
    canary: Canary,
    books: Books,
    frames: Frames,
    memory: Vec<u64>,
    tally: Tally,
}

/// A part of a run failed.
pub(crate) fn wrong<T>(words: core::fmt::Arguments<'_>) -> Run<T> {
    Err(alloc::fmt::format(words))
}

impl Judge {
    /// A judge with what the manifest gives.
    ///
    /// # Errors
    /// [`EnvError`].
    pub(crate) fn new(env: &Env) -> Result<Self, EnvError> {
        let tools = Tools {
            quota: env.capability("quota")?,
            image: env.capability("module:fuzzer")?,
            keys: env.capability("key-pool")?,
            inspect: env.capability("inspect")?,
            self_test: env.capability("self-test")?,
            priority: 1,
        };
        Ok(Self { tools, own: own::Own::new(env) })
    }

    /// Carries out a session.
    pub(crate) fn run(&mut self, session: &Session) -> Reply {
        let mut trial = match Trial::begin(&self.tools, session) {
            Ok(trial) => trial,
            Err(error) => return Reply::Unready(error),
        };
        let done = trial.run(session, &self.own);
        let tally = trial.tally;
        match done {
            Ok(()) => Reply::Passed(tally),
            Err(words) => Reply::Failed { tally, words: text::cut(format_args!("{words}")) },
        }
    }
}

impl<'a> Trial<'a> {
    fn begin(tools: &'a Tools, session: &Session) -> Result<Self, Error> {
        let canary = Canary::start(tools)?;
        let memory = (0..WORDS as u64).map(|at| at.wrapping_mul(session.seed | 1)).collect();
        Client::<Song>::new(canary.endpoint())
            .call(&Ask::Learn(session.seed))
            .map_err(|_| Error::Malformed)?;
        let (books, frames) = (Books::read(tools.inspect)?, Frames::default());
        Ok(Self { tools, canary, books, frames, memory, tally: Tally::default() })
    }

    fn run(&mut self, session: &Session, own: &own::Own) -> Run {
        let mut number = 0;
        while self.tally.calls < u64::from(session.calls) {
            let seed = session.seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let looked = self.worker(seed).and_then(|()| own.make_calls(self.tools, seed, &mut self.tally));
            let looked = looked.and_then(|()| self.look_after());
            looked.map_err(|words| alloc::format!("worker {number} ({seed:#x}): {words}"))?;
            number += 1;
        }
        self.audit()?;
        self.frames.judge()
    }

    /// One worker, from its beginning to its end.
    fn worker(&mut self, seed: u64) -> Run {
        let specimen = Specimen::start(self.tools, &self.canary, seed, CALLS);
        let mut specimen = specimen.map_err(|error| alloc::format!("it does not start: {error}"))?;
        let fate = specimen.watch().map_err(|error| alloc::format!("it cannot be watched: {error}"))?;
        self.tally.workers += 1;
        match fate {
            Fate::Done => {}
            Fate::Faulted => self.tally.faulted += 1,
            Fate::Stopped => self.tally.stopped += 1,
        }
        let counted = specimen.count(&mut self.tally, fate);
        drop(specimen);
        counted
    }

    /// Whether everything else is what it was.
    fn look_after(&mut self) -> Run {
        let sung = Client::<Song>::new(self.canary.endpoint()).call(&Ask::Sing);
        let words = match sung {
            Ok(Sung::Same(words)) => words,
            other => return wrong(format_args!("the canary: {other:x?}")),
        };
        let factor = self.memory.get(1).copied().unwrap_or(0);
        let same = |(at, word): (usize, &u64)| *word == (at as u64).wrapping_mul(factor);
        if factor == 0 || !self.memory.iter().enumerate().all(same) {
            return wrong(format_args!("the judge's memory has changed"));
        }
        self.tally.checks += words + self.memory.len() as u64;
        self.tally.checks += self.books.compare(self.tools.inspect)?;
        self.frames.note(self.tools.inspect)
    }

    /// Whether each page is mapped as it must be.
    fn audit(&mut self) -> Run {
        match self.tools.self_test.audit() {
            Ok((pages, 0)) if pages > 0 => {
                self.tally.checks += pages;
                Ok(())
            }
            Ok((pages, broken)) => wrong(format_args!("{broken} rules are broken in {pages} pages")),
            Err(error) => wrong(format_args!("no audit: {error}")),
        }
    }
}
