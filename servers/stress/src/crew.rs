//! The domains of a run, and what the kernel tells of them.

use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::abi::inspect::{DomainInfo, DomainState};
use libpks::abi::selftest::SelfTestOp;
use libpks::rt::{Inspect, KeyPool, SelfTest};

use crate::agent::Agent;
use crate::errand::{Answer, Command};
use crate::worker::{Nursery, Worker};

/// PKRS while the kernel runs: keys 0 and 1 open, all others closed.
pub(crate) const KERNEL_WORD: u64 = 0x5555_5550;

/// What a run needs.
#[derive(Clone, Copy, Debug)]
pub struct Tools {
    /// To look at words and pages.
    pub self_test: SelfTest,
    /// To take keys.
    pub keys: KeyPool,
    /// To look at threads and domains.
    pub inspect: Inspect,
    /// To make workers.
    pub nursery: Nursery,
}

impl Tools {
    /// The running domain of this name.
    pub(crate) fn domain(&self, name: &str) -> Result<DomainInfo, Error> {
        for domain in self.inspect.domains() {
            let domain = domain?;
            if domain.name == name && domain.state == DomainState::Running {
                return Ok(domain);
            }
        }
        Err(Error::NotFound)
    }

    /// The number of the thread that a domain calls `handle`.
    pub(crate) fn thread(&self, domain: u32, handle: u64) -> Result<u32, Error> {
        let mut index = 0;
        while let Some(cap) = self.inspect.capability(domain, index)? {
            if cap.handle == handle {
                return Ok(cap.object);
            }
            index += 1;
        }
        Err(Error::NotFound)
    }

    /// The key of the page at an address; `None` if nothing is mapped there.
    pub(crate) fn page_key(&self, address: u64) -> Result<Option<u8>, Error> {
        match self.self_test.run(SelfTestOp::WalkPageTable, [address, 0, 0, 0, 0]) {
            // Bits 62 to 59 of the leaf (Intel SDM vol. 3A, table 4-20).
            Ok([entry, ..]) => Ok(Some((entry >> 59 & 15) as u8)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// PKRS in the NMI handler of a CPU and after it.
    pub(crate) fn nmi(&self, cpu: u32) -> Result<[u64; 2], Error> {
        let [inside, after, ..] = self.self_test.run(SelfTestOp::Nmi, [u64::from(cpu), 0, 0, 0, 0])?;
        Ok([inside, after])
    }
}

/// All domains of a run: 0 is this one.
pub(crate) struct Crew {
    pub(crate) own: Agent,
    pub(crate) workers: Vec<Worker>,
}

impl Crew {
    pub(crate) fn new(tools: &Tools, workers: usize) -> Result<Self, Error> {
        let workers =
            (1..=workers).map(|number| Worker::start(tools.nursery, number)).collect::<Result<_, _>>()?;
        Ok(Self { own: Agent::new(tools.nursery.priority), workers })
    }

    /// Has a domain carry something out.
    pub(crate) fn run(&mut self, domain: usize, command: &Command) -> Result<Answer, Error> {
        match domain.checked_sub(1) {
            None => self.own.run(command),
            Some(_) => self.worker(domain)?.ask(command),
        }
    }

    /// The worker that is a domain.
    pub(crate) fn worker(&self, domain: usize) -> Result<&Worker, Error> {
        domain.checked_sub(1).and_then(|at| self.workers.get(at)).ok_or(Error::NotFound)
    }
}
