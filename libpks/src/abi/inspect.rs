//! What the kernel tells about itself through the Inspect capability.

use super::Name;
use serde::{Deserialize, Serialize};

/// What is asked for; word 1 of [`super::Syscall::Inspect`]. Word 2 is an index that starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Subject {
    /// [`SystemInfo`]; the index must be 0.
    System = 0,
    /// [`DomainInfo`] of the domain with this position among the live and dead ones.
    Domain = 1,
    /// [`ThreadInfo`].
    Thread = 2,
    /// [`KeyInfo`] of the hardware key with this number.
    Key = 3,
    /// [`CapInfo`]: capability (word 3) of the domain whose number is word 2.
    Capability = 4,
    /// [`super::fault::FaultReport`], the newest first.
    Fault = 5,
    /// [`CpuInfo`].
    Cpu = 6,
}

impl Subject {
    /// The subject with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<Subject> {
        use Subject::*;
        const ALL: [Subject; 7] = [System, Domain, Thread, Key, Capability, Fault, Cpu];
        if number < ALL.len() as u64 { Some(ALL[number as usize]) } else { None }
    }
}

/// What [`super::Syscall::Power`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum PowerAction {
    /// Turns the machine off.
    Off = 0,
    /// Starts it again.
    Reboot = 1,
}

/// What walls the domains off from each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Isolation {
    /// Protection keys for supervisor pages.
    Pks,
    /// Nothing: this CPU has no keys.
    None,
}

impl core::fmt::Display for Isolation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Isolation::Pks => "PKS",
            Isolation::None => "NONE",
        })
    }
}

/// The machine and the kernel as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SystemInfo {
    /// The kernel's version.
    pub version: Name,
    /// What walls the domains off.
    pub isolation: Isolation,
    /// 4 or 5.
    pub paging_levels: u8,
    /// CPUs that run.
    pub cpus: u32,
    /// Nanoseconds since boot.
    pub uptime_ns: u64,
    /// Frames of 4 KiB that the kernel manages.
    pub frames_total: u64,
    /// Those that are free.
    pub frames_free: u64,
    /// Who loaded the kernel.
    pub loader: Name,
    /// Hardware keys that the allocator can still give.
    pub keys_free: u8,
}

/// How a domain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u64)]
pub enum DomainState {
    /// Made, not started.
    Created = 0,
    /// Running.
    Running = 1,
    /// Ended by a fault.
    Faulted = 2,
    /// Stopped by whoever manages it.
    Stopped = 3,
    /// Its last thread ended by itself.
    Exited = 4,
}

impl DomainState {
    /// The state with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<DomainState> {
        use DomainState::*;
        const ALL: [DomainState; 5] = [Created, Running, Faulted, Stopped, Exited];
        if number < ALL.len() as u64 { Some(ALL[number as usize]) } else { None }
    }
}

/// A domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainInfo {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: Name,
    /// How it is.
    pub state: DomainState,
    /// The hardware key of its private memory, if it has one.
    pub key: Option<u8>,
    /// Its slot's first address.
    pub base: u64,
    /// Bytes of its quota.
    pub quota_bytes: u64,
    /// Bytes of it that are used.
    pub used_bytes: u64,
    /// Threads that began in it and live.
    pub threads: u32,
    /// Capabilities that it holds.
    pub capabilities: u32,
    /// Calls that it has accepted.
    pub calls: u64,
    /// Its priority.
    pub priority: u8,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ThreadState {
    /// Runs on a CPU.
    Running,
    /// Could run.
    Ready,
    /// Sleeps or waits for a notification.
    Waiting,
    /// Waits for a server to accept its call.
    Calling,
    /// Stands at a fault.
    Faulted,
    /// Waits for another thread's end.
    Joining,
    /// Has ended.
    Ended,
}

/// A thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThreadInfo {
    /// Its number.
    pub id: u32,
    /// The domain in which it began.
    pub home: Name,
    /// The domain in which it is now.
    pub domain: Name,
    /// What it does.
    pub state: ThreadState,
    /// Its priority.
    pub priority: u8,
    /// The CPU on which it runs or ran last.
    pub cpu: u32,
    /// Its rights word.
    pub pkrs: u32,
    /// How deep its chain of calls is.
    pub depth: u8,
}

/// A hardware key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyInfo {
    /// 0 to 15.
    pub key: u8,
    /// What it is for, in words.
    pub purpose: heapless::String<64>,
    /// Pages tagged with it that are shared regions or private memory.
    pub pages: u64,
}

/// A capability.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CapInfo {
    /// Its handle.
    pub handle: u64,
    /// The kind of its object.
    pub kind: Name,
    /// The object's number.
    pub object: u32,
    /// Rights as bits of [`crate::cap::CapRights`].
    pub rights: u16,
    /// Its badge.
    pub badge: u64,
    /// How many capabilities are derived from it.
    pub derived: u32,
}

/// A CPU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CpuInfo {
    /// Its number.
    pub id: u32,
    /// Its local APIC.
    pub apic_id: u32,
    /// Context switches.
    pub switches: u64,
    /// Writes of PKRS at context switches and exits.
    pub pkrs_writes: u64,
    /// Traps and gate entries.
    pub entries: u64,
    /// Name of the domain that runs there.
    pub running: Name,
}
