//! Operations that show the kernel from the inside: log, inspection, self-test.

use super::{Answer, Outcome, Request, misrouted};
use crate::arch::{clock, protection};
use crate::domain::Domain;
use crate::log::{self, Harmless};
use crate::mem::{self, Figures, NarrowRoots, PAGE};
use crate::object::Ref;
use crate::places;
use crate::state::Kernel;
use crate::thread::{State, Thread};
use crate::view::View;
use core::fmt::Write;
use libpks::abi::inspect::{
    CapInfo, CpuInfo, DomainInfo, KeyInfo, Objects, Subject, SystemInfo, ThreadInfo, ThreadState,
};
use libpks::abi::selftest::SelfTestOp;
use libpks::abi::{Error, Name, Syscall, layout, name};
use libpks::cap::{CapRights, ObjectId, ObjectKind, Owner};
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
                text.lines().for_each(|line| log::line(&source, format_args!("{}", Harmless(line))));
                Ok(Answer::NOTHING)
            }
            Syscall::LogRead => {
                self.require(owner, handle, ObjectKind::KernelLog, CapRights::READ)?;
                let mut room = [0; layout::IPC_BUFFER_BYTES];
                let read = log::read(first, &mut room);
                self.write_buffer(self.seat(request.thread), &room[..read.bytes]);
                let next = read.from + read.bytes as u64;
                if self.log_drainer == Some(request.domain) {
                    self.log_drained = self.log_drained.max(next);
                }
                Ok(Answer::Buffer([next, read.from, 0, 0, 0, 0, 0, 0], read.bytes))
            }
            Syscall::LogSubscribe => {
                self.require(owner, handle, ObjectKind::KernelLog, CapRights::READ)?;
                let signal = self.signal_for(request, first, second)?;
                self.log_reader = Some(signal);
                self.log_drainer = Some(request.domain);
                log::set_drained(true);
                // What was logged before went to the serial port already.
                self.log_drained = log::written();
                Ok(Answer::one(self.log_drained))
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

    /// Nobody drains the log any more: the kernel sends its lines itself.
    pub(crate) fn stop_draining(&mut self) {
        (self.log_drainer, self.log_reader) = (None, None);
        log::set_drained(false);
    }

    /// A domain has lost a capability to the log. Without another one to read it, it drains it no more.
    pub(crate) fn narrow_log_drainer(&mut self, object: ObjectId, owner: Owner) {
        let theirs = self.log_drainer.is_some_and(|domain| domain.number() == owner.0);
        if theirs && !self.caps.rights_to(owner, object).contains(CapRights::READ) {
            self.stop_draining();
        }
    }

    fn inspect(&mut self, asking: Ref<Thread>, subject: Subject, index: u64, sub_index: u64) -> Outcome {
        let number = u32::try_from(index).map_err(|_| Error::NotFound)?;
        let none = [0; 8];
        match subject {
            Subject::System if index == 0 => self.encoded(asking, none, &self.system_info(asking)),
            Subject::System => Err(Error::NotFound),
            Subject::Domain => {
                // The idle domain, number 0, is the kernel's own affair.
                let there = |n| self.domains.at_number(n);
                let domain = (number.max(1)..self.domains.capacity()).find_map(there);
                let domain = domain.ok_or(Error::NotFound)?;
                self.encoded(asking, none, &self.domain_info(domain))
            }
            Subject::Thread => {
                let idle = |at: &Ref<Thread>| self.threads[*at].home.domain.number() == 0;
                let there = |n| self.threads.at_number(n).filter(|at| !idle(at));
                let thread = (number..self.threads.capacity()).find_map(there).ok_or(Error::NotFound)?;
                self.encoded(asking, none, &self.thread_info(thread))
            }
            Subject::Key => {
                let key = u8::try_from(index).ok().and_then(Pkey::new).ok_or(Error::NotFound)?;
                let view = u32::try_from(sub_index).ok().and_then(|view| self.views.at_number(view));
                self.encoded(asking, none, &self.key_info(view.ok_or(Error::NotFound)?, key))
            }
            Subject::Capability => self.encoded(asking, none, &self.cap_info(Owner(number), sub_index)?),
            Subject::Fault => {
                let report = self.faults.newest(index).ok_or(Error::NotFound)?;
                self.encoded(asking, none, report)
            }
            Subject::Objects if index == 0 => self.encoded(asking, none, &self.count_objects()),
            Subject::Objects => Err(Error::NotFound),
            Subject::Cpu => self.encoded(asking, none, &self.cpu_info(number)?),
            Subject::Place => {
                let place = places::nth(number as usize).ok_or(Error::NotFound)?;
                self.encoded(asking, none, &place)
            }
        }
    }

    fn system_info(&self, asking: Ref<Thread>) -> SystemInfo {
        let view = self.view_of(self.owner(asking));
        let (frames_total, frames_free, paging_levels) =
            mem::with(|memory| (memory.frames_total, memory.frames.free_count(), memory.tables.levels));
        SystemInfo {
            version: name(env!("CARGO_PKG_VERSION")),
            isolation: protection::in_force().isolation(),
            paging_levels,
            cpus: self.cpus.len(),
            uptime_ns: clock::now_ns(),
            frames_total,
            frames_free,
            loader: self.boot.loader.clone(),
            keys_free: view.map_or(0, |view| self.views[view].keys.available()),
            views: self.views.count(),
        }
    }

    fn count_objects(&self) -> Objects {
        let domains = (0..self.domains.capacity()).filter_map(|number| self.domains.at_number(number));
        let budgets = (0..self.quotas.capacity()).filter_map(|number| self.quotas.at_number(number));
        let slots = [
            self.domains.capacity(),
            self.threads.capacity(),
            self.activations.capacity(),
            self.endpoints.capacity(),
            self.notifications.capacity(),
            self.regions.capacity(),
            self.facets.capacity(),
            self.views.capacity(),
            self.openings.capacity(),
            self.pooled_keys.capacity(),
            self.ports.capacity(),
            self.quotas.capacity(),
            self.caps.node_slots(),
        ];
        Objects {
            frames_free: mem::with(|memory| memory.frames.free_count()),
            keys_taken: self.all_views().map(|at| self.views[at].keys.allocated().count() as u32).sum(),
            domains: self.domains.count(),
            threads: self.threads.count(),
            spare_threads: self.spare_threads,
            activations: self.activations.count(),
            endpoints: self.endpoints.count(),
            notifications: self.notifications.count(),
            regions: self.regions.count(),
            facets: self.facets.count(),
            openings: self.openings.count(),
            pooled_keys: self.pooled_keys.count(),
            ports: self.ports.count(),
            capabilities: self.caps.nodes_in_use(),
            classes: self.sharing.classes().count() as u32,
            budget_bytes: budgets.map(|at| self.quotas[at].free_bytes).sum(),
            used_bytes: domains.map(|at| self.domains[at].used_bytes).sum(),
            slots: slots.into_iter().sum(),
        }
    }

    fn domain_info(&self, at: Ref<Domain>) -> DomainInfo {
        let domain = &self.domains[at];
        DomainInfo {
            id: at.number(),
            name: domain.name.clone(),
            state: domain.state,
            view: domain.view.map_or(0, Ref::number),
            key: domain.key.map(Pkey::index),
            base: domain.base,
            quota_bytes: domain.quota_bytes,
            used_bytes: domain.used_bytes,
            threads: domain.threads,
            capabilities: self.caps.count(Owner(at.number())),
            calls: domain.calls + self.calls_accepted_by(at),
            priority: domain.priority,
            cpu: domain.account.time(),
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
            priority: thread.priority.max(thread.lent.priority().unwrap_or(0)),
            cpu: thread.cpu as u32,
            pkrs: seat.word.raw(),
            depth: thread.depth,
        }
    }

    fn key_info(&self, view: Ref<View>, key: Pkey) -> KeyInfo {
        let mut purpose = heapless::String::new();
        let mut pages = 0;
        // Cut where it does not fit.
        let _ = match key {
            Pkey::OPEN => {
                purpose.push_str("open to every domain; no page has it").map_err(|_| core::fmt::Error)
            }
            Pkey::KERNEL => purpose.push_str("the kernel").map_err(|_| core::fmt::Error),
            _ => Ok(()),
        };
        for at in (0..self.domains.capacity()).filter_map(|n| self.domains.at_number(n)) {
            let domain = &self.domains[at];
            if domain.view == Some(view) && domain.key == Some(key) {
                let _ = write!(purpose, "{} ", domain.name);
                pages += domain.used_bytes / PAGE;
            }
        }
        for at in (0..self.regions.capacity()).filter_map(|n| self.regions.at_number(n)) {
            let region = &self.regions[at];
            let facet = self.facet_in(at, view);
            if key > Pkey::KERNEL && facet.is_some_and(|facet| self.facets[facet].key == key) {
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
                .any(|at| self.pooled_keys[at].view == view && self.pooled_keys[at].key == key);
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
        // With keys there are none.
        let narrow = self.narrow_roots.get(number).map(NarrowRoots::figures);
        let Figures { made, kept, frames } = narrow.unwrap_or_default();
        Ok(CpuInfo {
            id: number,
            apic_id: books.apic_id,
            switches: books.switches,
            pkrs_writes: books.pkrs_writes,
            roots_loaded: if narrow.is_some() { books.pkrs_writes } else { books.passage.roots_loaded },
            roots_made: made,
            roots_kept: kept,
            root_frames: frames,
            entries: books.entries,
            running: self.domain_name(self.seat(books.current).domain),
        })
    }
}
