//! What a scenario can ask of a helper.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::proto::Protocol;
use serde::{Deserialize, Serialize};

/// So many bytes fill an IPC buffer, with their length and what says that they are an [`Request::Echo`].
pub(crate) const FULL: usize = 4093;

/// Stands for the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand;

impl Protocol for Errand {
    const NAME: &'static str = "errand";
    type Request = Request;
    type Reply = Reply;
}

/// An errand. "The region" is the first capability of the message, else the one that is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Give the bytes back, without the last.
    Echo(Vec<u8>),
    /// Give the numbers back, each plus one.
    Add([u16; 8]),
    /// Tell the badge of the call.
    Badge,
    /// Tell what the first capability is.
    Identify,
    /// Derive another from the first capability, and tell what came of it.
    Derive,
    /// Keep the first capability.
    Keep,
    /// Hand over in the reply what is kept.
    GiveBack,
    /// Lend in the reply what is kept.
    LendBack,
    /// Hand over in the reply the first capability of the message.
    MoveBack,
    /// Hand over in the reply a notification that is made for it; say so and wait before if `after_wait`.
    Give {
        /// Whether to say so and wait first.
        after_wait: bool,
    },
    /// Hand over in the reply a region, a notification and an endpoint that are made for it.
    Make,
    /// Lend the first capability on, from a thread of one's own, to the next helper, which reads it later; say so, wait,
    /// drop one's own, and reply while the next is still at it.
    LendOn,
    /// Signal these bits through the first capability.
    Signal(u64),
    /// Ask the endpoint that is the first capability for its badge.
    CallFirst,
    /// Keep both capabilities, and ask to be told, through the second, what happens to what the first names.
    Hear(Ear),
    /// Delete the first of the capabilities that [`Request::Hear`] has kept, or the second.
    Deafen {
        /// Which.
        second: bool,
    },
    /// Start a thread that waits until one is let go on, and then faults; give the capability to it.
    Prey,
    /// Read the first word of the region.
    Read,
    /// Write the first word of the region.
    Write(u64),
    /// Open the region for all threads, and leave it so.
    OpenForAll,
    /// Open the region, and return without closing it.
    OpenAndReturn,
    /// Read the first word of the region without opening it.
    ReadUnopened,
    /// Read the word at an address in the area of regions, of whatever is there.
    ReadAt(u64),
    /// Open the region, as often as said, say so, wait, close all but the first opening, and read.
    ReadLater {
        /// Openings.
        openings: u8,
    },
    /// Open the region, say so, wait at the notification that is the second capability, and read.
    ReadAfter,
    /// Say so and wait.
    Wait,
    /// Wait for a time in milliseconds.
    Nap(u64),
    /// Say so, use the CPU for a time in milliseconds, and count as an errand that waits.
    Toil(u64),
    /// Say so, and never come back.
    Hang,
    /// Ask the next helper.
    Pass(Box<Request>),
    /// Call the next helper; wait before if `after_wait`; with `holding` open the region before and read it after.
    Forward {
        /// Whether to say so and wait first.
        after_wait: bool,
        /// Whether to hold the region open meanwhile.
        holding: bool,
        /// What to ask of the next: to wait, or its badge.
        wait: bool,
    },
    /// Call oneself until the kernel says that it is enough, and tell how often that went well.
    Descend,
    /// Tell how many errands that wait came to an end, and the last word that was read.
    Tally,
    /// Keep the capabilities, and use the region that the first names from a thread on this CPU until that faults or is
    /// buried. It says so with [`crate::haunt::RUNS`].
    Haunt {
        /// The CPU.
        cpu: u32,
    },
    /// Kill the thread that uses the region.
    Bury,
    /// Take the calling thread.
    TakeThread,
    /// Delete the capability to serve.
    DropServe,
    /// Stop the own domain through the capability to it.
    StopSelf,
    /// Delete the capability to the own domain.
    ForgetSelf,
    /// End by a panic.
    Panic,
}

/// What [`Request::Hear`] asks to be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Ear {
    /// The end of a domain.
    End,
    /// Faults of a thread.
    Fault,
}

/// What a helper answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// The bytes.
    Bytes(Vec<u8>),
    /// The numbers.
    Numbers([u16; 8]),
    /// A word: a badge, a value, a count.
    Word(u64),
    /// Two of them.
    Words(u64, u64),
    /// What a capability is: kind, rights, badge.
    Identity(u8, u16, u64),
    /// The kernel refused it.
    Failed(Error),
}
