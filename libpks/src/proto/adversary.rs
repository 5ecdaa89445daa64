//! The protocol of `adversary`, which commits one crime on request so that it can be seen what stops it.
#![forbid(unsafe_code)]

use super::Protocol;
use crate::abi::fault::{FaultKind, FaultReport};
use crate::abi::{Error, Name};
use serde::{Deserialize, Serialize};

/// The domain that commits crimes.
pub const SERVER: &str = "adversary";

/// What must come of a crime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sentence {
    /// The domain ends by a fault of this kind.
    Ends(FaultKind),
    /// The domain ends by a fault, whichever comes first.
    EndsSomehow,
    /// The kernel refuses with this error, and the domain lives.
    Refused(Error),
    /// The domain lives, and so does everyone else.
    Harmless,
}

/// What a crime aims at; whoever asks for it tells the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// Nothing beyond the adversary itself.
    Nothing,
    /// Memory of the domain that asks.
    Caller,
    /// Writable data of the kernel.
    KernelData,
    /// Instructions of the kernel.
    KernelText,
    /// What every domain may read and the kernel alone writes: a page of descriptors.
    OpenConstants,
    /// A region that is given for reading only.
    ReadOnlyRegion,
    /// A region that is given, and taken back by a revoke after the reply.
    RevokedRegion,
    /// A region that is lent until the reply.
    LentRegion,
}

impl Aim {
    /// Whether the crime is committed behind the reply, so that a fault must come after it.
    #[must_use]
    pub const fn is_after_reply(self) -> bool {
        matches!(self, Aim::RevokedRegion | Aim::LentRegion)
    }
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
}

macro_rules! crimes {
    ($($name:literal, $aim:ident, $sentence:expr, $about:literal;)+) => {
        /// All crimes.
        pub const CRIMES: &[Crime] = &{
            use Sentence::*;
            [$(Crime { name: $name, about: $about, aim: Aim::$aim, sentence: $sentence }),+]
        };
    };
}

crimes! {
    "read_foreign_memory", Caller, Ends(FaultKind::ProtectionKey), "read a variable of the domain that asks";
    "write_foreign_memory", Caller, Ends(FaultKind::ProtectionKey), "write a variable of the domain that asks";
    "read_kernel_memory", KernelData, Ends(FaultKind::ProtectionKey), "read the kernel's data";
    "write_kernel_memory", KernelData, Ends(FaultKind::ProtectionKey), "write the kernel's data";
    "write_own_text", Nothing, Ends(FaultKind::Protection), "write an instruction of its own";
    "read_kernel_text", KernelText, Ends(FaultKind::ProtectionKey), "read an instruction of the kernel";
    "write_kernel_text", KernelText, Ends(FaultKind::ProtectionKey), "write an instruction of the kernel";
    "write_open_constants", OpenConstants, Ends(FaultKind::Protection), "write a descriptor that all may read";
    "execute_data", Nothing, Ends(FaultKind::Protection), "jump to a buffer of its own";
    "execute_stack", Nothing, Ends(FaultKind::Protection), "jump to its stack";
    "jump_to_kernel_data", KernelData, Ends(FaultKind::Protection), "jump to the kernel's data";
    "jump_into_gate", Nothing, EndsSomehow, "jump to the middle of a gate with made-up registers";
    "jump_past_gates", Nothing, EndsSomehow, "jump to where a gate would be, had there been one more";
    "stack_overflow", Nothing, Ends(FaultKind::StackOverflow), "recurse without end";
    "null_read", Nothing, Ends(FaultKind::NotMapped), "read address 8";
    "null_write", Nothing, Ends(FaultKind::NotMapped), "write address 8";
    "non_canonical", Nothing, Ends(FaultKind::Exception(13)), "read a non-canonical address";
    "divide_error", Nothing, Ends(FaultKind::Exception(0)), "divide by zero";
    "undefined_instruction", Nothing, Ends(FaultKind::Exception(6)), "execute UD2";
    "breakpoint", Nothing, Ends(FaultKind::Exception(3)), "execute INT3";
    "panic", Nothing, Ends(FaultKind::Panic), "panic";
    "forged_handle", Nothing, Refused(Error::NoSuchCapability), "use handles that it was never given";
    "wrong_object", Nothing, Refused(Error::WrongObject), "use a capability for something else than it names";
    "garbage_message", Nothing, Refused(Error::Malformed), "send noise to a server";
    "oversized_message", Nothing, Refused(Error::BadMessage), "call with sizes that no message has";
    "write_read_only_region", ReadOnlyRegion, Refused(Error::RightsExceeded), "open for writing what is for reading";
    "read_after_revoke", RevokedRegion, Ends(FaultKind::ProtectionKey), "go on reading a region that is revoked";
    "read_after_loan", LentRegion, Ends(FaultKind::ProtectionKey), "go on reading a region that was lent";
    "wrong_syscall", Nothing, Refused(Error::NoSuchSyscall), "ask for operations that do not exist";
    "exhaust_heap", Nothing, Refused(Error::QuotaExceeded), "allocate until nothing is left";
    "exhaust_threads", Nothing, Refused(Error::QuotaExceeded), "start threads until nothing is left";
    "infinite_loop", Nothing, Harmless, "spin in a thread of its own, for ever";
}

/// The crime with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Crime> {
    CRIMES.iter().find(|crime| crime.name == name)
}

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Adversary;

impl Protocol for Adversary {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Commit a crime.
    Commit {
        /// Its name.
        name: Name,
        /// The address to aim at, for crimes against memory of others. Crimes on a region come with its capability.
        target: u64,
    },
}

/// What the adversary answers, if it lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The kernel refused.
    Refused(Error),
    /// It was done, and nothing stopped it.
    Succeeded,
    /// No crime has that name.
    UnknownCrime,
}

/// What came of a crime, as seen from outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Consequence {
    /// The adversary's domain was ended; the report.
    Ended(FaultReport),
    /// The domain was ended, but there is no report that blames it.
    EndedUnreported,
    /// The kernel refused, and the domain lives.
    Refused(Error),
    /// It was carried out.
    Succeeded,
}

impl Crime {
    /// Whether that is what must come of it.
    #[must_use]
    pub fn is_punished_by(&self, consequence: &Consequence) -> bool {
        match (self.sentence, consequence) {
            (Sentence::Ends(kind), Consequence::Ended(report)) => {
                report.domain_name == SERVER && report.kind == kind
            }
            (Sentence::EndsSomehow, Consequence::Ended(report)) => report.domain_name == SERVER,
            (Sentence::Refused(expected), Consequence::Refused(error)) => expected == *error,
            (Sentence::Harmless, Consequence::Succeeded) => true,
            _ => false,
        }
    }
}
