//! Calls and replies that the entry code makes by itself, and how the books learn of them.
//!
//! A call to a server that was called before, and is free, needs no decision: everything that the kernel would look up is
//! in a [`Connection`], and what it would write down of the caller is a [`Frame`]. The entry code
//! (`arch::entry::passing`) does both under the kernel's lock, and leaves the books as they are.
//!
//! **Why that is right.** The books are read under the lock and nowhere else. Whoever takes it by the way of Rust first
//! [settles](Kernel::settle_passages) the frames of all CPUs, so it never sees books that are behind. A frame that has not
//! been settled is one during which nobody was in the kernel but the entry code: no capability was lent or opened, nobody
//! waits, nobody has died. So the reply that takes it back has nothing to look after either.
//!
//! **What makes a connection stale** is forgotten at once, for all CPUs: the end of any capability to an endpoint, of an
//! activation, of a server. The thread that runs on a CPU changes only when that CPU leaves the kernel, or is evicted; then
//! its passage is armed anew, or disarmed. Rights words are read where the books have them, so a revoke needs nothing here.

use super::{Activation, MAX_DEPTH};
use crate::arch::{protection, window};
use crate::domain::Domain;
use crate::mem::{translations, vault};
use crate::object::Ref;
use crate::sched::Level;
use crate::state::Kernel;
use crate::thread::{Seat, Thread};
use core::mem::offset_of;
use core::ptr;
use libpks::table::Table;

/// Connections that a CPU remembers; a power of two.
pub(crate) const CONNECTIONS: usize = 16;
const FRAMES: usize = MAX_DEPTH as usize;
/// What no handle and no domain is.
const NOBODY: u64 = u64::MAX;

/// What a call through a handle comes to.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    pub(crate) handle: u64,
    /// The domain that holds it ([`Ref::raw`]).
    pub(crate) owner: u64,
    /// Address of the [`Activation`].
    pub(crate) activation: u64,
    /// The domain that serves.
    pub(crate) server: u64,
    pub(crate) badge: u64,
    pub(crate) entry: u64,
    pub(crate) cookie: u64,
    /// The stack pointer at the start.
    pub(crate) stack: u64,
    /// The root of its view on this CPU, if that is another view than the owner's. The handle is complemented then.
    pub(crate) root: u64,
}

impl Connection {
    const NONE: Connection = Connection {
        handle: NOBODY,
        owner: NOBODY,
        activation: 0,
        server: 0,
        badge: 0,
        entry: 0,
        cookie: 0,
        stack: 0,
        root: 0,
    };
}

/// A call that can be replied to: where the caller goes on, and as whom.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Frame {
    pub(crate) rsp: u64,
    /// The caller's domain.
    pub(crate) owner: u64,
    /// Address of the rights word of the caller's seat.
    pub(crate) word_at: u64,
    /// Address of the [`Activation`].
    pub(crate) activation: u64,
    /// Of a call into another view: what `base` was, and the caller's root.
    pub(crate) base: u64,
    pub(crate) root: u64,
}

/// What the entry code may do for the thread that runs on a CPU. It is read and written with the kernel's lock held.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Passage {
    /// The domain in which the thread is; 0 if each of its ways must be the kernel's.
    pub(crate) owner: u64,
    /// Address of the rights word of its seat.
    pub(crate) word_at: u64,
    /// Address behind the last frame.
    pub(crate) top: u64,
    /// Address behind the last frame of a call into another view: where `top` is that, the reply leaves the view.
    pub(crate) base: u64,
    /// The lowest that `top` was since the books were settled.
    pub(crate) lowest: u64,
    /// Where `top` must not go beyond: a chain of calls has an end.
    pub(crate) limit: u64,
    /// Ways into the kernel since the CPU's books were told.
    pub(crate) ways: u64,
    /// What `top` was when the books were settled.
    settled: u64,
    /// The root that is in force on the CPU, and how often it was loaded.
    pub(crate) root: u64,
    pub(crate) roots_loaded: u64,
    /// Address of the leaf that maps the CPU's vault, and its two values.
    pub(crate) vault_at: u64,
    pub(crate) vault_open: u64,
    pub(crate) vault_shut: u64,
    pub(crate) frames: [Frame; FRAMES],
    pub(crate) connections: [Connection; CONNECTIONS],
}

impl Passage {
    /// Of a CPU that has run nobody yet, on this root.
    pub(crate) const fn new(root: u64) -> Passage {
        Passage {
            owner: 0,
            word_at: 0,
            top: 0,
            lowest: 0,
            limit: 0,
            ways: 0,
            settled: 0,
            base: 0,
            root,
            roots_loaded: 0,
            vault_at: 0,
            vault_open: 0,
            vault_shut: 0,
            frames: [Frame { rsp: 0, owner: 0, word_at: 0, activation: 0, base: 0, root: 0 }; FRAMES],
            connections: [Connection::NONE; CONNECTIONS],
        }
    }

    fn bottom(&self) -> u64 {
        address(&self.frames)
    }

    /// No way is the entry code's any more, and there is no call to reply to.
    pub(crate) fn disarm(&mut self) {
        let bottom = self.bottom();
        self.owner = 0;
        (self.top, self.lowest, self.limit, self.settled) = (bottom, bottom, bottom, bottom);
        self.base = bottom;
    }

    fn place_of(&self, frame_at: u64) -> usize {
        (frame_at.saturating_sub(self.bottom()) / size_of::<Frame>() as u64) as usize
    }
}

fn address<T>(of: &T) -> u64 {
    ptr::from_ref(of).expose_provenance() as u64
}

impl Kernel {
    /// Tells this CPU's entry code where its passage is, once.
    pub(crate) fn open_passage(&mut self) {
        let passage = &mut self.cpu(window::cpu()).passage;
        passage.disarm();
        (passage.vault_at, passage.vault_open, passage.vault_shut) = vault::leaf();
        window::set_passage(address(passage));
    }

    /// Brings the books up to date with what the entry code has done on all CPUs. The first thing that is done with the
    /// lock.
    ///
    /// All replies come before all calls: an activation that was left on one CPU may have been entered on another since.
    /// Of each activation there is one reply at most to a call that the books know, the first of all, and one call at most
    /// that is not over, the last.
    pub(crate) fn settle_passages(&mut self) {
        for cpu in 0..self.cpus.len() as usize {
            self.book_replies(cpu);
        }
        for cpu in 0..self.cpus.len() as usize {
            self.book_calls(cpu);
        }
        self.cpu(window::cpu()).passage.disarm();
    }

    /// Replies to calls that the books know, in which nothing is lent or open, and for which nobody waits.
    fn book_replies(&mut self, cpu: usize) {
        let books = self.cpu(cpu);
        let (thread, passage) = (books.current, &mut books.passage);
        let known = core::mem::replace(&mut passage.settled, passage.lowest);
        for _ in passage.place_of(passage.lowest)..passage.place_of(known) {
            if let Some(at) = self.go_out(thread) {
                self.put_back(at);
            }
        }
    }

    /// Calls that the books do not know. Where there is any call to reply to the CPU is disarmed: what this event does may
    /// leave the reply something to look after.
    fn book_calls(&mut self, cpu: usize) {
        let books = self.cpu(cpu);
        let (thread, passage) = (books.current, &mut books.passage);
        if passage.top == passage.bottom() {
            return;
        }
        let frames = passage.frames;
        let unknown = passage.place_of(passage.lowest)..passage.place_of(passage.top);
        passage.disarm();
        for frame in frames.get(unknown).unwrap_or_default() {
            self.book_call(thread, frame);
        }
    }

    fn book_call(&mut self, thread: Ref<Thread>, frame: &Frame) {
        if let Some(at) = self.activations.at_address(frame.activation) {
            self.take_this(at);
            self.go_in(thread, at, frame.rsp);
        }
    }

    /// Lets the entry code of this CPU serve a thread that is about to run here.
    pub(crate) fn arm_passage(&mut self, thread: Ref<Thread>) {
        let cpu = window::cpu();
        if translations::ON || protection::in_force().has_roots() || thread == self.cpu(cpu).idle {
            return;
        }
        let seat = self.seat(thread);
        let (owner, word_at) = (seat.domain.raw(), address(&seat.word));
        let left = usize::from(MAX_DEPTH.saturating_sub(self.threads[thread].depth));
        let frame = self.frame_of(thread);
        let passage = &mut self.cpu(cpu).passage;
        let at = |count: usize| passage.bottom() + (count * size_of::<Frame>()) as u64;
        let used = usize::from(frame.is_some());
        let (top, limit) = (at(used), at((used + left).min(FRAMES)));
        let crosses = frame.is_some_and(|frame| frame.root != 0);
        let base = if crosses { top } else { passage.bottom() };
        if let Some(frame) = frame {
            passage.frames[0] = Frame { base: passage.bottom(), ..frame };
        }
        passage.base = base;
        (passage.owner, passage.word_at) = (owner, word_at);
        (passage.top, passage.lowest, passage.settled, passage.limit) = (top, top, top, limit);
    }

    /// The innermost call of a thread, if a reply to it has nothing to look after.
    fn frame_of(&self, thread: Ref<Thread>) -> Option<Frame> {
        let books = &self.threads[thread];
        let at = books.top?;
        let activation = &self.activations[at];
        let endpoint = self.endpoints.get(activation.endpoint)?;
        let served = endpoint.server.is_some_and(|server| server.domain == activation.seat.domain);
        let simple = served
            && !activation.dismissed
            && activation.loans.is_empty()
            && activation.seat.openings.is_none()
            && endpoint.callers.head.is_none()
            && endpoint.refs > 0
            && !books.orphan
            && books.owns_home
            && books.lent == Level::BACKGROUND;
        let below: &Seat = match activation.below {
            Some(below) => &self.activations[below].seat,
            None => &books.home,
        };
        let caller = self.domains.get(below.domain).filter(|_| simple)?.view?;
        let crosses = self.domains[activation.seat.domain].view != Some(caller);
        Some(Frame {
            rsp: activation.caller_rsp,
            owner: below.domain.raw(),
            word_at: address(&below.word),
            activation: address(activation),
            base: 0,
            root: if crosses { self.views[caller].tables.root(window::cpu()) } else { 0 },
        })
    }

    /// A thread has been let in: the next call of the same domain through this handle, from this CPU, needs no kernel, and
    /// begins as this one does.
    pub(super) fn remember_connection(&mut self, handle: u64, owner: Ref<Domain>, thread: Ref<Thread>) {
        // What the entry code passes it writes the word of; it makes no root.
        if protection::in_force().has_roots() {
            return;
        }
        let Thread { top: Some(at), record, .. } = &self.threads[thread] else { return };
        let activation = &self.activations[*at];
        let server = self.domains[activation.seat.domain].view;
        let other = server.filter(|&view| self.domains[owner].view != Some(view));
        let connection = Connection {
            handle: if other.is_some() { !handle } else { handle },
            owner: owner.raw(),
            activation: address(activation),
            server: activation.seat.domain.raw(),
            badge: record.r15,
            entry: record.rip,
            cookie: record.rbx,
            stack: record.rsp,
            root: other.map_or(0, |view| self.views[view].tables.root(window::cpu())),
        };
        self.cpu(window::cpu()).passage.connections[handle as usize % CONNECTIONS] = connection;
    }

    /// Something has ended that a connection may rest on.
    pub(crate) fn forget_connections(&mut self) {
        for cpu in 0..self.cpus.len() as usize {
            self.cpu(cpu).passage.connections = [Connection::NONE; CONNECTIONS];
        }
    }
}

/// What the entry code must know of [`Activation`].
pub(crate) const ACTIVATION_AVAILABLE: usize = offset_of!(Activation, available);
/// See [`ACTIVATION_AVAILABLE`].
pub(crate) const ACTIVATION_WORD: usize = offset_of!(Activation, seat.word);
/// See [`ACTIVATION_AVAILABLE`].
pub(crate) const ACTIVATION_CALLS: usize = offset_of!(Activation, calls);

const _: () = assert!(size_of::<Connection>() == 128 && size_of::<Frame>() == 64);
