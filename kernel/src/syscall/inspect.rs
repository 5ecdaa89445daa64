//! Operations that show the kernel from the inside: log, inspection, self-test.

use super::{Answer, Outcome, Request, misrouted};
use crate::arch::clock;
use crate::domain::Domain;
use crate::log;
use crate::mem::{self, PAGE};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use core::fmt::Write;
use libpks::abi::inspect::{
    CapInfo, CpuInfo, DomainInfo, Isolation, KeyInfo, Subject, SystemInfo, ThreadInfo, ThreadState,
};
use libpks::abi::selftest::SelfTestOp;
use libpks::abi::{Error, Name, Syscall, layout, name};
use libpks::cap::{CapRights, ObjectKind, Owner};
use libpks::pkey::Pkey;
use libpks::table::Table;

/// How many derived capabilities are counted before the count is given as it is.
const COUNTED: u32 = 1000;

impl Kernel {
    pub(super) fn operate_inspect(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [handle, first, second, third, ..] = request.words;
        let owner = request.owner();
        match syscall {
            Syscall::LogWrite => {
                self.require(owner, handle, ObjectKind::KernelLog, CapRights::WRITE)?;
                let mut room = [0; layout::IPC_BUFFER_BYTES];
                let text = self.request_text(request, &mut room)?;
                let source = self.domains[request.domain].name.clone();
                text.lines().for_each(|line| log::line(&source, format_args!("{line}")));
                Ok(Answer::NOTHING)
            }
            Syscall::LogRead => {
                self.require(owner, handle, ObjectKind::KernelLog, CapRights::READ)?;
                let mut room = [0; layout::IPC_BUFFER_BYTES];
                let read = log::read(first, &mut room);
                self.write_buffer(self.seat(request.thread), &room[..read.bytes]);
                let next = read.from + read.bytes as u64;
                Ok(Answer::Buffer([next, read.from, 0, 0, 0, 0, 0, 0], read.bytes))
            }
            Syscall::LogSubscribe => {
                self.require(owner, handle, ObjectKind::KernelLog, CapRights::READ)?;
                let signal = self.signal_for(request, first, second)?;
                self.log_reader = Some(signal);
                self.log_drainer = Some(request.domain);
                log::set_drained(true);
                // What was logged before went to the serial port already.
                Ok(Answer::one(log::written()))
            }
            Syscall::SelfTest => {
                self.require(owner, handle, ObjectKind::SelfTest, CapRights::MANAGE)?;
                let op = SelfTestOp::from_number(first).ok_or(Error::InvalidArgument)?;
                let [_, _, arguments @ ..] = request.words;
                self.selftest(request.thread, op, arguments).map(Answer::Words)
            }
            Syscall::Inspect => {
                self.require(owner, handle, ObjectKind::Inspect, CapRights::READ)?;
                let subject = Subject::from_number(first).ok_or(Error::InvalidArgument)?;
                self.inspect(request.thread, subject, second, third)
            }
            _ => misrouted(),
        }
    }

    fn inspect(&mut self, asking: Ref<Thread>, subject: Subject, index: u64, sub_index: u64) -> Outcome {
        let number = u32::try_from(index).map_err(|_| Error::NotFound)?;
        let none = [0; 8];
        match subject {
            Subject::System if index == 0 => self.encoded(asking, none, &self.system_info()),
            Subject::System => Err(Error::NotFound),
            Subject::Domain => {
                // The idle domain is the kernel's own affair.
                let domain = self.nth(
                    self.domains.capacity(),
                    |n| self.domains.at_number(n).filter(|at| at.number() > 0),
                    number,
                )?;
                self.encoded(asking, none, &self.domain_info(domain))
            }
            Subject::Thread => {
                let idle = |at: &Ref<Thread>| self.threads[*at].home.domain.number() == 0;
                let thread = self.nth(
                    self.threads.capacity(),
                    |n| self.threads.at_number(n).filter(|at| !idle(at)),
                    number,
                )?;
                self.encoded(asking, none, &self.thread_info(thread))
            }
            Subject::Key => {
                let key = u8::try_from(index).ok().and_then(Pkey::new).ok_or(Error::NotFound)?;
                self.encoded(asking, none, &self.key_info(key))
            }
            Subject::Capability => self.encoded(asking, none, &self.cap_info(Owner(number), sub_index)?),
            Subject::Fault => {
                let report = self.faults.newest(index).ok_or(Error::NotFound)?;
                self.encoded(asking, none, report)
            }
            Subject::Cpu => self.encoded(asking, none, &self.cpu_info(number)?),
        }
    }

    /// The object at a position among those that are there.
    fn nth<T>(
        &self,
        capacity: u32,
        at_fn: impl Fn(u32) -> Option<Ref<T>>,
        position: u32,
    ) -> Result<Ref<T>, Error> {
        (0..capacity).filter_map(at_fn).nth(position as usize).ok_or(Error::NotFound)
    }

    fn system_info(&self) -> SystemInfo {
        let (frames_total, frames_free, paging_levels) =
            mem::with(|memory| (memory.frames_total, memory.frames.free_count(), memory.tables.levels));
        SystemInfo {
            version: name(env!("CARGO_PKG_VERSION")),
            isolation: if self.pks { Isolation::Pks } else { Isolation::None },
            paging_levels,
            cpus: self.cpus.len(),
            uptime_ns: clock::now_ns(),
            frames_total,
            frames_free,
            loader: self.boot.loader.clone(),
            keys_free: self.keys.available(),
        }
    }

    fn domain_info(&self, at: Ref<Domain>) -> DomainInfo {
        let domain = &self.domains[at];
        DomainInfo {
            id: at.number(),
            name: domain.name.clone(),
            state: domain.state,
            key: domain.key.map(Pkey::index),
            base: domain.base,
            quota_bytes: domain.quota_bytes,
            used_bytes: domain.used_bytes,
            threads: domain.threads,
            capabilities: self.caps.count(Owner(at.number())),
            calls: domain.calls,
            priority: domain.priority,
        }
    }

    fn domain_name(&self, at: Ref<Domain>) -> Name {
        self.domains.get(at).map_or_else(|| name("(gone)"), |domain| domain.name.clone())
    }

    fn thread_info(&self, at: Ref<Thread>) -> ThreadInfo {
        let thread = &self.threads[at];
        let seat = self.seat(at);
        ThreadInfo {
            id: at.number(),
            home: self.domain_name(thread.home.domain),
            domain: self.domain_name(seat.domain),
            state: match thread.state {
                State::Running(_) => ThreadState::Running,
                State::Ready(_) => ThreadState::Ready,
                State::Sleeping | State::Waiting(_) => ThreadState::Waiting,
                State::Calling(_) => ThreadState::Calling,
                State::Joining(_) => ThreadState::Joining,
                State::Faulted => ThreadState::Faulted,
                State::Ended => ThreadState::Ended,
            },
            priority: thread.priority,
            cpu: thread.cpu as u32,
            pkrs: seat.word.raw(),
            depth: thread.depth,
        }
    }

    fn key_info(&self, key: Pkey) -> KeyInfo {
        let mut purpose = heapless::String::new();
        let mut pages = 0;
        // Cut where it does not fit.
        let _ = match key {
            Pkey::OPEN => purpose.push_str("open to every domain, read-only").map_err(|_| core::fmt::Error),
            Pkey::KERNEL => purpose.push_str("the kernel").map_err(|_| core::fmt::Error),
            _ => Ok(()),
        };
        for at in (0..self.domains.capacity()).filter_map(|n| self.domains.at_number(n)) {
            let domain = &self.domains[at];
            if domain.key == Some(key) {
                let _ = write!(purpose, "{} ", domain.name);
                pages += domain.used_bytes / PAGE;
            }
        }
        for at in (0..self.regions.capacity()).filter_map(|n| self.regions.at_number(n)) {
            let region = &self.regions[at];
            if region.key == key && key > Pkey::KERNEL {
                pages += region.pages;
                let payer = self.domain_name(region.payer.domain);
                if !purpose.contains(payer.as_str()) {
                    let _ = write!(purpose, "{payer} (shared) ");
                }
            }
        }
        if purpose.is_empty() {
            let taken = (0..self.pooled_keys.capacity())
                .filter_map(|n| self.pooled_keys.at_number(n))
                .any(|at| self.pooled_keys[at].key == key);
            let _ = purpose.push_str(if taken { "taken from the pool" } else { "free" });
        }
        KeyInfo { key: key.index(), purpose, pages }
    }

    fn cap_info(&self, owner: Owner, position: u64) -> Result<CapInfo, Error> {
        let position = usize::try_from(position).map_err(|_| Error::NotFound)?;
        let (handle, capability) = self.caps.owned(owner).nth(position).ok_or(Error::NotFound)?;
        let mut kind = Name::new();
        let _ = write!(kind, "{:?}", capability.object.kind);
        Ok(CapInfo {
            handle: handle.raw(),
            kind,
            object: capability.object.index,
            rights: capability.rights.bits(),
            badge: capability.badge,
            derived: self.caps.derived_count(owner, handle, COUNTED).map_or(0, |derived| derived.count),
        })
    }

    fn cpu_info(&self, number: u32) -> Result<CpuInfo, Error> {
        let books = self.cpus.get(number).ok_or(Error::NotFound)?;
        Ok(CpuInfo {
            id: number,
            apic_id: books.apic_id,
            switches: books.switches,
            pkrs_writes: books.pkrs_writes,
            entries: books.entries,
            running: self.domain_name(self.seat(books.current).domain),
        })
    }
}
