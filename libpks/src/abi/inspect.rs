//! What the kernel tells about itself through the Inspect capability.

use super::Name;
use crate::budget::CpuTime;
use serde::{Deserialize, Serialize};

/// What is asked for; word 1 of [`super::Syscall::Inspect`]. Word 2 is an index that starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Subject {
    /// [`SystemInfo`]; the index must be 0.
    System = 0,
    /// [`DomainInfo`] of the domain, alive or dead, with the least number from the index on.
    Domain = 1,
    /// [`ThreadInfo`], by its number likewise.
    Thread = 2,
    /// [`KeyInfo`] of the hardware key with this number in the view whose number is word 3.
    Key = 3,
    /// [`CapInfo`]: capability (word 3) of the domain whose number is word 2.
    Capability = 4,
    /// [`super::fault::FaultReport`], the newest first.
    Fault = 5,
    /// [`CpuInfo`].
    Cpu = 6,
    /// [`PlaceInfo`].
    Place = 7,
    /// [`Objects`]; the index must be 0.
    Objects = 8,
}

impl Subject {
    /// The subject with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<Subject> {
        use Subject::*;
        const ALL: [Subject; 9] = [System, Domain, Thread, Key, Capability, Fault, Cpu, Place, Objects];
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
    /// Protection keys for user pages, which the kernel has all pages be.
    Pku,
    /// Page tables for each rights word, for no keys are in use.
    Views,
}

impl core::fmt::Display for Isolation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Isolation::Pks => "PKS",
            Isolation::Pku => "PKU",
            Isolation::Views => "VIEWS",
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
    /// Hardware keys that can still be given in the view of who asks.
    pub keys_free: u8,
    /// Views that there are, empty ones too; their numbers begin at 0.
    pub views: u32,
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
    /// The number of the view in which it is.
    pub view: u32,
    /// The hardware key of its private memory there, if it has one.
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
    /// The CPU time of its threads, wherever they were.
    pub cpu: CpuTime,
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

/// A hardware key of a view.
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
    /// Writes of rights words, on the ways in and out.
    pub pkrs_writes: u64,
    /// Loads of a root: on the ways from one view into another; where each rights word has a root, all of those writes.
    pub roots_loaded: u64,
    /// Roots of rights words that it has made, where they have such, and how many of them it remembers.
    pub roots_made: u64,
    /// See [`CpuInfo::roots_made`].
    pub roots_kept: u32,
    /// Frames that it keeps for their tables.
    pub root_frames: u32,
    /// Traps and gate entries.
    pub entries: u64,
    /// Name of the domain that runs there.
    pub running: Name,
}

/// Something of the kernel's that lies at a fixed address. Where it lies is no secret; what protects it says
/// [`PlaceKind`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlaceInfo {
    /// What it is.
    pub name: Name,
    /// Of what sort it is.
    pub kind: PlaceKind,
    /// Its address.
    pub address: u64,
}

/// What a domain may do at a place, or what it finds there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PlaceKind {
    /// Data under the kernel's key: nothing.
    Private,
    /// Constants that every domain can read and none can write.
    Constant,
    /// Not mapped any more.
    Gone,
    /// The end of a trap slot of this CPU: every domain can write there.
    Slot,
    /// A WRMSR that writes the kernel's word into PKRS, and is checked.
    TakesWord,
    /// A WRMSR that writes a domain's word into PKRS, and is checked.
    GivesWord,
    /// A RDMSR of PKRS.
    ReadsWord,
    /// A function of the kernel.
    Function,
    /// A function that is one privileged instruction and a return.
    Instruction,
    /// Where a domain lands that comes out of a gate: a RET.
    Landing,
}

/// How many of everything there is: what a restart must leave as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Objects {
    /// Frames that are free.
    pub frames_free: u64,
    /// Hardware keys that are in use, in all views.
    pub keys_taken: u32,
    /// Domains, those that have ended and are still named by a capability included.
    pub domains: u32,
    /// Threads.
    pub threads: u32,
    /// Places that are kept for threads.
    pub spare_threads: u32,
    /// Activations of servers.
    pub activations: u32,
    /// Endpoints.
    pub endpoints: u32,
    /// Notifications.
    pub notifications: u32,
    /// Regions.
    pub regions: u32,
    /// Regions in views: one counts in each that shows it.
    pub facets: u32,
    /// What is open of regions.
    pub openings: u32,
    /// Keys that were taken from the pool.
    pub pooled_keys: u32,
    /// Ranges of ports.
    pub ports: u32,
    /// Capabilities of all domains, the dead ones that hold a tree together included.
    pub capabilities: u32,
    /// Sharing classes.
    pub classes: u32,
    /// Bytes in budgets that no domain has.
    pub budget_bytes: u64,
    /// Bytes that domains have used of what they have.
    pub used_bytes: u64,
    /// Slots of all tables of the kernel, whether used or free: they grow only when all are used.
    pub slots: u32,
}
