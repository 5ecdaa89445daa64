//! The reference model: what threads may do with regions, by lists and nothing else.
//!
//! It says of every [`Step`] what must come of it, and of every thread and region whether a read and a write go
//! through. It is slow and plain on purpose, and shares no code with the capability table, the sharing classes or the
//! rights words that it judges: nothing of `cap`, `sharing` or `pkey` is used here. Everything has a number that is
//! never used again: domains, regions, capabilities, threads, keys.
//!
//! | part | what it holds |
//! |---|---|
//! | [`Model`] | the state: lists |
//! | [`Model::errors`] | what must come of a step: nothing to object to, or one of these errors |
//! | [`Model::commit`] | the step has been done |
//! | [`View::may`] | whether a read and a write go through |
//! | [`generator`] | random steps |
#![forbid(unsafe_code)]

mod access;
mod changes;
pub mod generator;
mod keys;
mod predict;

pub use access::{Class, View};

use crate::abi::Error;
use alloc::vec::Vec;

/// What may be done with memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Nothing.
    Nothing,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// What a capability to a region says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Says {
    /// Read.
    pub read: bool,
    /// Write, if it says read as well.
    pub write: bool,
    /// Give it to others.
    pub grant: bool,
    /// Put the region under a key.
    pub manage: bool,
}

impl Says {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, grant: true, manage: true };

    /// What it lets a thread do at most.
    #[must_use]
    pub fn access(self) -> Access {
        match (self.read, self.write) {
            (true, true) => Access::Write,
            (true, false) => Access::Read,
            (false, _) => Access::Nothing,
        }
    }

    /// Whether it says no more than `other`.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        let pairs = [
            (self.read, other.read),
            (self.write, other.write),
            (self.grant, other.grant),
            (self.manage, other.manage),
        ];
        pairs.into_iter().all(|(own, others)| others || !own)
    }
}

/// A domain.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Whether it runs.
    pub alive: bool,
    /// What is open for all of its threads.
    pub openings: Vec<Opening>,
}

/// A region.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Whether it is there.
    pub alive: bool,
    /// Its size.
    pub pages: u64,
    /// Whether nobody reaches it, because its holders changed when no key was free.
    pub closed: bool,
    /// The key from the pool that it was put under.
    pub pin: Option<usize>,
    /// What its first word holds.
    pub value: u64,
}

/// A capability to a region.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    /// Who holds it.
    pub domain: usize,
    /// What it names.
    pub region: usize,
    /// What it says.
    pub says: Says,
    /// What it was derived from.
    pub parent: Option<usize>,
    /// Whether it is there.
    pub alive: bool,
}

/// What somebody has open.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The region.
    pub region: usize,
    /// For what.
    pub access: Access,
    /// Whether it can be closed: one that came of [`After::Mend`] cannot, nobody has a guard of it.
    pub guarded: bool,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Where it began.
    pub domain: usize,
    /// Whether it is there.
    pub alive: bool,
    /// What it has open, in the order in which it opened.
    pub openings: Vec<Opening>,
}

/// A key from the pool.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Whether the capability to it is there.
    pub held: bool,
}

/// How a capability goes to another domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Give {
    /// A derived one that says the same.
    Copy,
    /// A derived one that does not say write.
    ReadOnly,
    /// The capability itself.
    Move,
}

/// What happens to a thread that stands at a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// It is killed.
    Kill,
    /// Its rights are set through this capability, and it goes on.
    Mend(usize),
}

/// What can be done. Capabilities, threads, keys and regions are numbers of the model and may be gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A thread begins in a domain.
    Spawn {
        /// The domain.
        domain: usize,
    },
    /// A thread is killed.
    Kill {
        /// The thread.
        thread: usize,
    },
    /// A thread goes to another CPU.
    Migrate {
        /// The thread.
        thread: usize,
        /// The CPU; the number is taken modulo those that there are.
        cpu: u32,
    },
    /// A domain makes a region, perhaps under a key of domain 0.
    Create {
        /// The domain.
        domain: usize,
        /// Pages.
        pages: u64,
        /// The key.
        key: Option<usize>,
    },
    /// Domain 0 takes a key out of the pool.
    TakeKey,
    /// Domain 0 gives a key back.
    DropKey {
        /// The key.
        key: usize,
    },
    /// Domain 0 puts a region under a key.
    Rekey {
        /// The capability to the region.
        cap: usize,
        /// The key.
        key: usize,
    },
    /// A thread opens a region.
    Open {
        /// The thread.
        thread: usize,
        /// Its domain's capability.
        cap: usize,
        /// For what.
        access: Access,
    },
    /// A thread closes one of its openings.
    Close {
        /// The thread.
        thread: usize,
        /// Which: its place among those that can be closed.
        nth: usize,
    },
    /// A domain says what all of its threads may do with a region.
    Global {
        /// The capability.
        cap: usize,
        /// What.
        access: Access,
    },
    /// A capability is derived for the same domain.
    Mint {
        /// From which.
        cap: usize,
        /// What it says.
        says: Says,
    },
    /// A capability is dropped.
    Delete {
        /// Which.
        cap: usize,
    },
    /// All that was derived from a capability is taken back.
    Revoke {
        /// Which.
        cap: usize,
    },
    /// A capability goes to another domain, in a message. One of the two is domain 0.
    Give {
        /// Which.
        cap: usize,
        /// Who gets it.
        to: usize,
        /// How.
        how: Give,
    },
    /// Domain 0 lends a region to another domain for a call, in which that opens it and accesses it.
    Lend {
        /// Which.
        cap: usize,
        /// Who gets it.
        to: usize,
        /// Without write.
        read_only: bool,
        /// For what it is opened.
        access: Access,
        /// Whether it is opened for all threads rather than for the one.
        global: bool,
    },
    /// A thread reads or writes a region, whatever it may.
    Touch {
        /// The thread.
        thread: usize,
        /// The region.
        region: usize,
        /// Whether it writes.
        write: bool,
        /// What follows if it faults.
        after: After,
    },
    /// A domain is stopped, and another begins in its place.
    Restart {
        /// The domain.
        domain: usize,
    },
    /// A CPU gets an NMI.
    Nmi {
        /// The CPU; the number is taken modulo those that there are.
        cpu: u32,
    },
}

impl Step {
    /// Its kind, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "spawn",
            Self::Kill { .. } => "kill",
            Self::Migrate { .. } => "migrate",
            Self::Create { .. } => "create",
            Self::TakeKey => "take-key",
            Self::DropKey { .. } => "drop-key",
            Self::Rekey { .. } => "rekey",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Global { .. } => "global",
            Self::Mint { .. } => "mint",
            Self::Delete { .. } => "delete",
            Self::Revoke { .. } => "revoke",
            Self::Give { .. } => "give",
            Self::Lend { .. } => "lend",
            Self::Touch { .. } => "touch",
            Self::Restart { .. } => "restart",
            Self::Nmi { .. } => "nmi",
        }
    }
}

/// The state.
#[derive(Clone, Debug)]
pub struct Model {
    /// Domains; 0 is the one that runs the steps.
    pub domains: Vec<Domain>,
    /// Regions.
    pub regions: Vec<Region>,
    /// Capabilities.
    pub caps: Vec<Cap>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Keys from the pool.
    pub keys: Vec<Key>,
    /// How many hardware keys there are for the domains but 0, for regions, and for the pool.
    pub hardware_keys: usize,
    /// The last value that was written anywhere.
    pub last_value: u64,
}

/// The errors that a step may end with; if there are none it must be done.
pub type Errors = Vec<Error>;

impl Model {
    /// `domains` domains that hold nothing, and so many keys besides that of domain 0.
    #[must_use]
    pub fn new(domains: usize, hardware_keys: usize) -> Self {
        let domain = Domain { alive: true, openings: Vec::new() };
        Self {
            domains: alloc::vec![domain; domains],
            regions: Vec::new(),
            caps: Vec::new(),
            threads: Vec::new(),
            keys: Vec::new(),
            hardware_keys,
            last_value: 0,
        }
    }

    /// A capability that is there.
    #[must_use]
    pub fn cap(&self, cap: usize) -> Option<&Cap> {
        self.caps.get(cap).filter(|cap| cap.alive)
    }

    /// Whether `at` was derived from `top`, directly or not.
    #[must_use]
    pub fn is_below(&self, at: usize, top: usize) -> bool {
        let mut up = self.caps[at].parent;
        while let Some(parent) = up {
            if parent == top {
                return true;
            }
            up = self.caps[parent].parent;
        }
        false
    }
}
