//! What a row of the table says of a crime.

use crate::abi::Error;
use crate::abi::fault::FaultKind;
use crate::abi::inspect::PlaceKind;
use core::fmt;

/// What must come of a crime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sentence {
    /// The domain ends by a fault of this kind.
    Ends(FaultKind),
    /// The same, and the fault is at the address that the crime aims at.
    EndsThere(FaultKind),
    /// The domain ends by a fault, whichever comes first.
    EndsSomehow,
    /// The kernel refuses with this error, and the domain lives.
    Refused(Error),
    /// The domain lives, and so does everyone else.
    Harmless,
    /// Any of these, as long as the domain has nothing of it: what comes hangs on what the machine was doing.
    Contained,
}

/// What a crime aims at; whoever asks for it tells the address. A crime with several aims is committed for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// Nothing beyond the adversary itself.
    Nothing,
    /// Memory of the domain that asks.
    Caller,
    /// A place of the kernel, by name.
    Place(&'static str),
    /// Every place of the kernel that is of this kind.
    Places(PlaceKind),
    /// Each of these numbers: addresses that the ABI fixes, vectors, registers.
    Numbers(&'static [u64]),
    /// Stack, IPC buffer and heap of every other domain that runs.
    EveryDomain,
    /// The first instruction of every other domain that runs.
    EveryText,
    /// A region that is given for reading only.
    ReadOnlyRegion,
    /// A region that is given, and taken back by a revoke after the reply.
    RevokedRegion,
    /// A region that is lent until the reply.
    LentRegion,
    /// A region that is given, to read and write; the judge reads from it meanwhile.
    SharedRegion,
}

impl Aim {
    /// Whether the crime is committed behind the reply, so that a fault must come after it.
    #[must_use]
    pub const fn is_after_reply(self) -> bool {
        matches!(self, Aim::RevokedRegion | Aim::LentRegion)
    }
}

/// Who attacks (docs/threat-model.md), the weakest first. A wall that holds against one holds against those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attacker {
    /// A mistake.
    Bug,
    /// One who chooses the data.
    Data,
    /// One who chooses the control flow.
    Control,
    /// One who writes the program, as far as the loader takes it.
    Binary,
}

impl fmt::Display for Attacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Attacker::Bug => "bug",
            Attacker::Data => "data",
            Attacker::Control => "control",
            Attacker::Binary => "binary",
        })
    }
}

macro_rules! vectors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Classes of attacks; each must be met by a row.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Vector {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Vector {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Vector] = &[$(Vector::$name),+];

            /// In words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Vector::$name => $text,)+ }
            }
        }
    };
}

vectors! {
    /// Instructions that no domain may have, and those that are switched off.
    EscapeBytes = 1, "escape bytes";
    /// Jumps into gates, stubs and the way out.
    Gate = 2, "gate";
    /// The kernel's text is mapped for everybody.
    SharedText = 3, "shared text";
    /// Page tables, descriptor tables, and the other mapping of a frame.
    Tables = 4, "tables and aliases";
    /// The kernel does for a domain what that may not do itself.
    Deputy = 5, "the kernel's own hand";
    /// Messages, buffers, badges.
    Messages = 6, "messages";
    /// Frames, flags, stacks that the CPU or the stubs use.
    TrapFrame = 7, "trap frame";
    /// Traps inside one another.
    NestedTrap = 8, "nested trap";
    /// Rights that were taken back.
    StaleRights = 9, "stale rights";
    /// What was freed and is used by others.
    Reuse = 10, "reuse";
    /// What the compiler makes of the order.
    Order = 11, "order of instructions";
    /// Bus masters.
    Dma = 12, "bus masters";
    /// Devices that lie.
    Device = 13, "lying device";
    /// Too much of something.
    Exhaustion = 14, "exhaustion";
    /// Caches and predictors.
    Speculation = 15, "speculation";
    /// Stacks that end.
    Stack = 16, "stack";
    /// What others have left in memory.
    Leftovers = 17, "leftovers";
    /// Reports, logs, the terminal.
    Records = 18, "records";
    /// Memory of others, plainly.
    Wall = 19, "the wall itself";
    /// Handles, kinds, rights.
    Handles = 20, "handles";
}

/// A crime as both sides know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crime {
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub about: &'static str,
    /// What it aims at.
    pub aim: Aim,
    /// What must come of it.
    pub sentence: Sentence,
    /// The strongest attacker against whom the wall holds.
    pub holds: Attacker,
    /// What sort of attack it is.
    pub vectors: &'static [Vector],
    /// What stops it.
    pub stopped_by: &'static str,
    /// What is left, if anything.
    pub left: &'static str,
}
