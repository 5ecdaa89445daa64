//! Faults of domains: what is reported, who hears of it, what becomes of the domain.

use crate::arch::entry::gate_landing_address;
use crate::arch::record::{NO_ERROR_CODE, Record, VECTOR_BAD, VECTOR_CALL};
use crate::arch::{clock, insn, protection, window};
use crate::domain::Domain;
use crate::mem::{self, Leaf, PAGE};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{Seat, State, Thread, context_base};
use core::fmt::Write;
use libpks::abi::fault::{BacktraceStep, FaultAccess, FaultKind, FaultReport};
use libpks::abi::inspect::DomainState;
use libpks::abi::{Name, layout, name};
use libpks::cap::{CapRights, ObjectKind, Owner};
use libpks::pkey::{Access, Pkrs};
use libpks::table::Table;

/// The vector of a page fault.
pub(crate) const PAGE_FAULT: u64 = 14;
/// Bits of a page fault's error code (Intel SDM vol. 3A, 4.7).
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
const KEY: u64 = 1 << 5;

/// Reports that are kept.
const KEPT: u64 = 64;
/// Steps of a backtrace.
const MAX_STEPS: usize = 12;

/// The last reports.
pub(crate) struct Faults {
    reports: mem::ReservedTable<FaultReport>,
    /// Reports ever made.
    made: u64,
}

impl Faults {
    /// None yet.
    pub(crate) fn new() -> Faults {
        Faults { reports: mem::ReservedTable::new(), made: 0 }
    }

    /// Keeps a report and gives its number. Without memory for one more, the oldest goes early.
    fn keep(&mut self, report: FaultReport) -> u64 {
        let number = self.made;
        self.made += 1;
        let place = (number % KEPT) as u32;
        if place < self.reports.len() {
            if let Some(old) = self.reports.get_mut(place) {
                *old = report;
            }
        } else if self.reports.push(report).is_err() {
            log::error!(target: "fault", "no memory to keep the report");
        }
        number
    }

    /// The report with this number, if it is still kept.
    pub(crate) fn get(&self, number: u64) -> Option<&FaultReport> {
        if number >= self.made || self.made - number > KEPT {
            return None;
        }
        self.reports.get((number % KEPT) as u32)
    }

    /// The newest but `n`.
    pub(crate) fn newest(&self, n: u64) -> Option<&FaultReport> {
        self.get(self.made.checked_sub(n + 1)?)
    }
}

impl Kernel {
    /// A thread has faulted: by what the CPU says, or (`why`, `message`) by its own word. If somebody asked to hear of
    /// its faults it stands still until told otherwise; else its domain ends.
    pub(crate) fn fault(&mut self, thread: Ref<Thread>, claimed: Option<(FaultKind, &str)>) {
        if claimed.is_none() && self.is_overtaken(thread) {
            return;
        }
        let report = self.report(thread, claimed);
        let domain = self.seat(thread).domain;
        let heard = self.threads[thread].on_fault.filter(|signal| self.is_heard(signal));
        let heard = heard.filter(|_| claimed.is_none());
        // It was asked for a domain's own threads. In a call they run another domain, whose fault is its supervisor's.
        let heard = heard.filter(|_| self.threads[thread].top.is_none());
        // Whoever asked to hear of it decides what to say of it.
        if heard.is_none() {
            print(&report);
        }
        let number = self.faults.keep(report);
        if let Some(signal) = heard {
            self.threads[thread].fault = Some(number);
            self.block(thread, State::Faulted, 0);
            self.signal(signal);
            return;
        }
        self.domains[domain].fault = Some(number);
        self.doom(domain, DomainState::Faulted);
    }

    /// A domain has lost a capability to a thread. Without another one to manage it, it hears of its faults no more, and
    /// one at which the thread stands because of that domain is one that nobody heard of.
    pub(crate) fn narrow_fault_hearer(&mut self, at: Ref<Thread>, owner: Owner) {
        let hearer = self.threads.get(at).and_then(|books| books.on_fault).map(|signal| signal.owner);
        let object = at.object(ObjectKind::Thread);
        if hearer != Some(owner) || self.caps.rights_to(owner, object).contains(CapRights::MANAGE) {
            return;
        }
        let books = &mut self.threads[at];
        books.on_fault = None;
        let domain = books.home.domain;
        if books.state == State::Faulted
            && let Some(number) = books.fault
        {
            if let Some(report) = self.faults.get(number) {
                print(report);
            }
            if let Some(books) = self.domains.get_mut(domain) {
                books.fault = Some(number);
            }
            self.doom(domain, DomainState::Faulted);
        }
    }

    /// Whether a key fault came of a change that was under way on another CPU: pages had their new key before this CPU
    /// had the word that goes with it. By the books the access is allowed, so it is made again.
    fn is_overtaken(&self, thread: Ref<Thread>) -> bool {
        let record = &self.threads[thread].record;
        if record.vector != PAGE_FAULT || record.error == NO_ERROR_CODE {
            return false;
        }
        let Seat { domain, word, .. } = *self.seat(thread);
        let Some(leaf) = self.walk_as(domain, insn::read_cr2()) else { return false };
        if protection::in_force().has_roots() {
            return refused_by_books(leaf, word, record.error).is_none();
        }
        record.error & KEY != 0 && word.permits(leaf.key(), access_in(record.error), true)
    }

    /// What a record has of a trap becomes what keys would have left in it, where roots stand for them: the rights word that
    /// was in force, and of a page fault the error code.
    pub(crate) fn read_as_keys_would(&mut self, thread: Ref<Thread>) {
        if !protection::in_force().has_roots() {
            return;
        }
        let Seat { domain, word, .. } = *self.seat(thread);
        let Record { vector, error, pkrs, .. } = self.threads[thread].record;
        // Gates take no evidence.
        if vector >= VECTOR_CALL {
            return;
        }
        let read = protection::in_force().word_read(pkrs);
        self.threads[thread].record.pkrs = u64::from(read.raw());
        if vector == PAGE_FAULT && error != NO_ERROR_CODE {
            let error = self.error_by_keys(domain, word, insn::read_cr2(), error);
            self.threads[thread].record.error = error;
        }
    }

    /// The error code of a page fault as keys would have given it, where the page is in no root of the word, or is there to
    /// be read only. Keys do not check fetches, but a root does: one that is refused counts as a read that the key forbids.
    /// What the books allow stays as it is.
    pub(crate) fn error_by_keys(&self, domain: Ref<Domain>, word: Pkrs, address: u64, error: u64) -> u64 {
        let leaf = self.walk_as(domain, address);
        match leaf.and_then(|leaf| refused_by_books(leaf, word, error)) {
            Some(why) => error & !(PRESENT | KEY) | why,
            None => error,
        }
    }

    fn report(&self, thread: Ref<Thread>, claimed: Option<(FaultKind, &str)>) -> FaultReport {
        let record = &self.threads[thread].record;
        let seat = *self.seat(thread);
        let page_fault = claimed.is_none() && record.vector == PAGE_FAULT;
        let address = if page_fault { insn::read_cr2() } else { 0 };
        let error = if record.error == NO_ERROR_CODE { 0 } else { record.error };
        let leaf = if page_fault { self.walk_as(seat.domain, address) } else { None };
        // What another view shows has an owner too.
        let taken = page_fault && mem::with(|memory| memory.tables.walk(address)).is_some();
        let kind = match claimed {
            Some((kind, _)) => kind,
            None if record.vector == VECTOR_BAD => FaultKind::GateAbuse,
            None if page_fault => self.page_fault_kind(&seat, address, error, taken),
            None => FaultKind::Exception(record.vector as u8),
        };
        let mut message = heapless::String::new();
        for c in claimed.map_or("", |(_, text)| text).chars() {
            // It goes to the log, where it must not look like lines of others.
            if message.push(if c.is_control() { ' ' } else { c }).is_err() {
                break;
            }
        }
        FaultReport {
            time_ns: clock::now_ns(),
            domain: seat.domain.number(),
            domain_name: self.domains[seat.domain].name.clone(),
            thread: thread.number(),
            cpu: window::cpu() as u32,
            kind,
            access: access_of(page_fault, error),
            address,
            error_code: error as u32,
            key: leaf.map(|leaf| leaf.key().index()),
            owner: taken.then(|| self.owner_of(address)),
            pkrs: seat.word.raw(),
            pkrs_live: record.pkrs as u32,
            rip: record.rip,
            rsp: record.rsp,
            rflags: record.rflags,
            registers: [
                record.rax, record.rbx, record.rcx, record.rdx, record.rsi, record.rdi, record.rbp,
                record.r8, record.r9, record.r10, record.r11, record.r12, record.r13, record.r14, record.r15,
            ],
            backtrace: self.backtrace(&self.domains[seat.domain], record.rip, record.rbp),
            message,
        }
    }

    /// `taken`: something is there, in whatever view.
    fn page_fault_kind(&self, seat: &Seat, address: u64, error: u64, taken: bool) -> FaultKind {
        let base = context_base(self.domains[seat.domain].base, seat.context);
        let below_stack = (base..base + layout::STACK_TOP_OFFSET).contains(&address);
        match () {
            () if error & KEY != 0 => FaultKind::ProtectionKey,
            () if error & PRESENT != 0 => FaultKind::Protection,
            () if below_stack => FaultKind::StackOverflow,
            () if taken => FaultKind::OtherView,
            () => FaultKind::NotMapped,
        }
    }

    /// Who has what lies at an address.
    fn owner_of(&self, address: u64) -> Name {
        if let Some(slot) = layout::slot_of(address) {
            let domain = self.domains.at_number(slot as u32).map(|domain| self.domains[domain].name.clone());
            return domain.unwrap_or_else(|| name("nobody"));
        }
        match self.region_at(address).and_then(|at| self.domains.get(self.regions[at].payer.domain)) {
            Some(payer) => payer.name.clone(),
            None => name("kernel"),
        }
    }

    /// Return addresses along the chain of frame pointers, as far as it stays in the domain's own memory: the walk
    /// reads nothing else, and goes no further than [`MAX_STEPS`].
    fn backtrace(&self, domain: &Domain, rip: u64, rbp: u64) -> heapless::Vec<BacktraceStep, MAX_STEPS> {
        let mut steps = heapless::Vec::new();
        let mut address = rip;
        let mut frame = rbp;
        let slot = domain.base..domain.base + layout::SLOT_BYTES;
        while steps.push(BacktraceStep { address, symbol: self.symbol(domain, address) }).is_ok() {
            let readable = frame.is_multiple_of(8) && slot.contains(&frame) && frame % PAGE <= PAGE - 16;
            let Some(leaf) = readable.then(|| mem::with(|memory| memory.tables.walk(frame))).flatten() else {
                break;
            };
            let mut words = [0; 16];
            mem::copy_from_frame(leaf.frame(frame), (frame % PAGE) as usize, &mut words);
            let (next, back) = words.split_at(8);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte));
            let (next, back) = (word(next), word(back));
            // Frames lie one above the other; anything else is no chain.
            if next <= frame && next != 0 || back == 0 {
                break;
            }
            (frame, address) = (next, back);
        }
        steps
    }

    /// The function that an address lies in.
    fn symbol(&self, domain: &Domain, address: u64) -> Option<(heapless::String<64>, u32)> {
        if address == gate_landing_address() {
            return Some((text64("(in the kernel)"), 0));
        }
        let offset = address.checked_sub(domain.base + layout::IMAGE_OFFSET)?;
        let file = self.module_bytes(domain.module?).ok()?;
        let (symbol, start) = libpks::elf::symbol_at(file, offset)?;
        let mut text = heapless::String::<64>::new();
        // Cut where it does not fit.
        let _ = write!(text, "{:#}", rustc_demangle::demangle(symbol));
        if text.is_empty() {
            text = text64(symbol);
        }
        Some((text, (offset - start) as u32))
    }
}

fn text64(text: &str) -> heapless::String<64> {
    let mut cut = heapless::String::new();
    for c in text.chars() {
        if cut.push(c).is_err() {
            break;
        }
    }
    cut
}

/// Why a leaf or a rights word refuses an access that an error code tells of, in bits of such a code; `None` if they allow it.
fn refused_by_books(leaf: Leaf, word: Pkrs, error: u64) -> Option<u64> {
    let (fetch, write) = (error & FETCH != 0, error & WRITE != 0);
    match () {
        () if fetch && !leaf.executable() => Some(PRESENT),
        () if leaf.is_keyed() && !word.permits(leaf.key(), access_in(error), true) => Some(PRESENT | KEY),
        () if write && !leaf.writable() => Some(PRESENT),
        () => None,
    }
}

/// What a page fault's error code says of the access, as keys know it.
fn access_in(error: u64) -> Access {
    if error & WRITE != 0 { Access::Write } else { Access::Read }
}

fn access_of(page_fault: bool, error: u64) -> FaultAccess {
    match () {
        () if !page_fault => FaultAccess::None,
        () if error & FETCH != 0 => FaultAccess::Execute,
        () if error & WRITE != 0 => FaultAccess::Write,
        () => FaultAccess::Read,
    }
}

/// Writes a report to the log.
fn print(report: &FaultReport) {
    let FaultReport { domain_name, domain, thread, cpu, kind, access, rip, .. } = report;
    log::error!(target: "fault", "domain={domain_name}({domain}) thread={thread} cpu={cpu} kind={kind:?} access={access:?}");
    if let Some(owner) = &report.owner {
        match report.key {
            Some(key) => {
                log::error!(target: "fault", "  addr={:#018x} owner={owner} key={key} error={:#x}", report.address, report.error_code)
            }
            None => {
                log::error!(target: "fault", "  addr={:#018x} owner={owner}, in another view, error={:#x}", report.address, report.error_code)
            }
        }
    } else if report.address != 0 {
        log::error!(target: "fault", "  addr={:#018x} not mapped, error={:#x}", report.address, report.error_code);
    }
    log::error!(target: "fault", "  PKRS={:#010x} ({})", report.pkrs, Pkrs::from_raw(report.pkrs));
    if !report.message.is_empty() {
        log::error!(target: "fault", "  {}", report.message);
    }
    log::error!(target: "fault", "  rip={rip:#018x} rsp={:#018x} rflags={:#x}", report.rsp, report.rflags);
    const NAMES: [&str; 15] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ];
    for (names, values) in NAMES.chunks(4).zip(report.registers.chunks(4)) {
        let mut line = heapless::String::<120>::new();
        for (name, value) in names.iter().zip(values) {
            let _ = write!(line, "  {name:<3}={value:016x}");
        }
        log::error!(target: "fault", "{line}");
    }
    for step in &report.backtrace {
        match &step.symbol {
            Some((symbol, offset)) => {
                log::error!(target: "fault", "  at {:#018x} {symbol}+{offset:#x}", step.address)
            }
            None => log::error!(target: "fault", "  at {:#018x}", step.address),
        }
    }
}
