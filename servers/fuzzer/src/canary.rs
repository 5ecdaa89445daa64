//! The canary: a domain that does nothing but remember. It serves the workers' random calls too.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::proto::Protocol;
use libpks::rt::region::Access;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Caller, Env, EnvError, Owned, Region, Server, serve};
use serde::{Deserialize, Serialize};

/// The canary's role.
pub(crate) const CANARY: &str = "canary";
/// The badge of the judge's calls; workers have another one.
pub(crate) const JUDGE: u64 = 0x6a75;
/// Words that it keeps on its heap.
const WORDS: usize = 8192;
/// Pages of the region that it keeps open for all its threads.
const PAGES: u64 = 16;

/// Stands for the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Song;

impl Protocol for Song {
    const NAME: &'static str = CANARY;
    type Request = Ask;
    type Reply = Sung;
}

/// What the judge asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Fill all memory with what follows from this number.
    Learn(u64),
    /// Compare it.
    Sing,
}

/// What the canary answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Sung {
    /// So many words are what they were.
    Same(u64),
    /// This word of the heap, or of the region behind it, is another one.
    Changed { word: u64, expected: u64, found: u64 },
    /// It is not for the caller to ask.
    Silent,
    /// Something failed.
    Failed(Error),
}

struct Canary {
    seed: u64,
    heap: Vec<u64>,
    region: Unguarded,
    _region: Owned<Region>,
}

/// Serves as a canary, and does not come back.
pub(crate) fn sit(env: &Env) -> Result<(), EnvError> {
    let canary = Canary::new().unwrap_or_else(|error| panic!("no canary: {error}"));
    let served = serve::start(env.endpoint("serve")?, canary, env.stack_bytes());
    served.unwrap_or_else(|error| panic!("cannot serve: {error}"));
    serve::park()
}

/// What a word holds.
const fn word(seed: u64, at: u64) -> u64 {
    (seed ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

impl Canary {
    fn new() -> Result<Self, Error> {
        let region = Region::create(PAGES * PAGE, None)?;
        region.open_global(Access::ReadWrite)?;
        let mut canary =
            Self { seed: 0, heap: alloc::vec![0; WORDS], region: region.unguarded()?, _region: region };
        canary.learn(0)?;
        Ok(canary)
    }

    fn learn(&mut self, seed: u64) -> Result<(), Error> {
        self.seed = seed;
        for (at, place) in (0..).zip(&mut self.heap) {
            *place = word(seed, at);
        }
        for at in 0..PAGES * PAGE / 8 {
            self.region.write_u64(at * 8, word(seed, at + WORDS as u64))?;
        }
        Ok(())
    }

    fn compare(&self) -> Result<Sung, Error> {
        let heap = self.heap.iter().map(|found| Ok(*found));
        let region = (0..PAGES * PAGE / 8).map(|at| self.region.read_u64(at * 8));
        let mut words = 0;
        for found in heap.chain(region) {
            let (expected, found) = (word(self.seed, words), found?);
            if found != expected {
                return Ok(Sung::Changed { word: words, expected, found });
            }
            words += 1;
        }
        Ok(Sung::Same(words))
    }
}

impl Server for Canary {
    type Protocol = Song;

    fn handle(&mut self, caller: &mut Caller, request: Ask) -> Sung {
        if caller.badge != JUDGE {
            return Sung::Silent;
        }
        let sung = match request {
            Ask::Learn(seed) => self.learn(seed).and_then(|()| self.compare()),
            Ask::Sing => self.compare(),
        };
        sung.unwrap_or_else(Sung::Failed)
    }
}
