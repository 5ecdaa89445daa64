//! Call and reply.

use super::{Activation, Endpoint, MAX_DEPTH};
use crate::arch::entry::gate_landing_address;
use crate::arch::record::{RFLAGS_START, Record};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{Ending, Seat, State, Thread, context_base};
use libpks::abi::message::Info;
use libpks::abi::{Error, layout};
use libpks::cap::{CapRights, ObjectKind};

impl Kernel {
    /// A thread has come through the call gate: R15 names an endpoint.
    pub(crate) fn call(&mut self, thread: Ref<Thread>) {
        if let Err(error) = self.try_call(thread) {
            self.answer(thread, Err(error));
        }
    }

    fn try_call(&mut self, thread: Ref<Thread>) -> Result<(), Error> {
        let Record { r11, r15, rbx, .. } = self.threads[thread].record;
        if !Info::from_raw(r11).is_valid() {
            return Err(Error::BadMessage);
        }
        let endpoint =
            self.object::<Endpoint>(self.owner(thread), r15, ObjectKind::Endpoint, CapRights::CALL)?;
        if self.threads[thread].depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        if let Some(activation) = self.take_free(endpoint) {
            let owner = self.seat(thread).domain;
            self.accept(thread, activation).inspect_err(|_| self.put_back(activation))?;
            self.remember_connection(r15, owner, thread);
            return Ok(());
        }
        self.would_wait_for_itself(thread, endpoint)?;
        self.block(thread, State::Calling(endpoint), rbx);
        self.lend_priority(thread, endpoint);
        Ok(())
    }

    /// Whether waiting at an endpoint could never end: everybody who could accept the call waits, in the end, for
    /// this thread. With several activations one that is not part of a cycle is enough.
    fn would_wait_for_itself(&self, thread: Ref<Thread>, endpoint: Ref<Endpoint>) -> Result<(), Error> {
        if self.endpoints[endpoint].server.is_none() {
            // A server may come.
            return Ok(());
        }
        let mut own_chain = false;
        for at in self.activations_at(endpoint) {
            let Some(busy_with) = self.activations[at].thread else { return Ok(()) };
            match self.waits_for(busy_with, thread) {
                None => return Ok(()),
                Some(directly) => own_chain |= directly,
            }
        }
        Err(if own_chain { Error::WouldDeadlock } else { Error::Deadlock })
    }

    /// Whether `from` is `target` (`Some(true)`), or waits for a call that `target` serves, over any number of steps
    /// through endpoints with one activation (`Some(false)`).
    fn waits_for(&self, from: Ref<Thread>, target: Ref<Thread>) -> Option<bool> {
        let mut at = from;
        for step in 0..self.threads.capacity() {
            if at == target {
                return Some(step == 0);
            }
            let State::Calling(endpoint) = self.threads[at].state else { return None };
            let mut serving = self.activations_at(endpoint);
            let only = serving.next()?;
            if serving.next().is_some() {
                return None;
            }
            at = self.activations[only].thread?;
        }
        None
    }

    /// Lets the most urgent of those who wait in, if an activation is free. Gives whether it did.
    pub(super) fn accept_next(&mut self, endpoint: Ref<Endpoint>) -> bool {
        let Some(caller) = self.first_caller(endpoint) else { return false };
        let Some(activation) = self.take_free(endpoint) else { return false };
        self.unlink(caller);
        // What it called with may have been revoked meanwhile.
        let handle = self.threads[caller].record.r15;
        let held = self.object::<Endpoint>(self.owner(caller), handle, ObjectKind::Endpoint, CapRights::CALL);
        let accepted = held.and_then(|_| self.accept(caller, activation));
        if let Err(error) = accepted {
            self.put_back(activation);
            self.answer(caller, Err(error));
        }
        self.take_what_is_lent(caller);
        self.make_ready(caller);
        true
    }

    /// A caller goes into an activation, with its message.
    fn accept(&mut self, thread: Ref<Thread>, activation: Ref<Activation>) -> Result<(), Error> {
        let record = self.threads[thread].record;
        let info = Info::from_raw(record.r11);
        let badge =
            self.require(self.owner(thread), record.r15, ObjectKind::Endpoint, CapRights::CALL)?.badge;
        let endpoint = self.activations[activation].endpoint;
        let server = self.endpoints[endpoint].server.ok_or(Error::Gone)?;
        let (from, to) = (*self.seat(thread), self.activations[activation].seat);
        let mut words = record.words();
        let loans = self.transfer(info, &mut words, from.domain, to.domain)?;
        self.copy_buffer(&from, &to, info.bytes());
        self.go_in(thread, activation, record.rsp);
        let books = &mut self.activations[activation];
        books.loans = loans;
        books.calls += 1;
        let base = context_base(self.domains[to.domain].base, to.context);
        let mut entered = Record {
            rip: server.entry,
            rsp: base + layout::STACK_TOP_OFFSET,
            rflags: RFLAGS_START,
            r11: info.raw(),
            r15: badge,
            rbx: server.cookie,
            ..Record::default()
        };
        entered.set_words(words);
        self.threads[thread].record = entered;
        Ok(())
    }

    /// A thread is in an activation from now on, and called from where its stack pointer was this.
    pub(super) fn go_in(&mut self, thread: Ref<Thread>, at: Ref<Activation>, caller_rsp: u64) {
        let endpoint = self.activations[at].endpoint;
        self.endpoints[endpoint].accepted += 1;
        let time = self.begin_call_time(thread);
        let books = &mut self.activations[at];
        (books.thread, books.caller_rsp, books.time) = (Some(thread), caller_rsp, time);
        books.below = self.threads[thread].top.replace(at);
        self.threads[thread].depth += 1;
    }

    /// It is not in its innermost activation any more, which is in no list of free ones yet.
    pub(super) fn go_out(&mut self, thread: Ref<Thread>) -> Option<Ref<Activation>> {
        let at = self.threads[thread].top?;
        let books = &mut self.activations[at];
        books.thread = None;
        let (below, endpoint) = (books.below.take(), books.endpoint);
        if let Some(books) = self.endpoints.get_mut(endpoint) {
            books.accepted = books.accepted.saturating_sub(1);
        }
        self.threads[thread].top = below;
        self.threads[thread].depth -= 1;
        Some(at)
    }

    /// Copies the first bytes of one IPC buffer into another.
    fn copy_buffer(&self, from: &Seat, to: &Seat, bytes: usize) {
        let mut message = [0; layout::IPC_BUFFER_BYTES];
        let message = &mut message[..bytes];
        self.read_buffer(from, message);
        self.write_buffer(to, message);
    }

    /// A thread has come through the reply gate: it goes back to where it called from, with the reply. One that cannot
    /// be delivered is refused, so that the server learns that it still has what it meant to hand over.
    pub(crate) fn reply(&mut self, thread: Ref<Thread>) {
        let Some(activation) = self.threads[thread].top else {
            return self.answer(thread, Err(Error::WrongState));
        };
        let record = self.threads[thread].record;
        let info = Info::from_raw(record.r11);
        let mut words = record.words();
        if let Err(error) = self.deliver_reply(thread, activation, info, &mut words) {
            return self.answer(thread, Err(error));
        }
        if self.leave_call(thread) {
            self.answer(thread, Ok(words));
            self.threads[thread].record.r11 = info.raw();
        }
    }

    /// Gives the caller what the reply carries; a reply to nobody is dropped, with what it was to hand over.
    fn deliver_reply(
        &mut self,
        thread: Ref<Thread>,
        activation: Ref<Activation>,
        info: Info,
        words: &mut [u64; 8],
    ) -> Result<(), Error> {
        let lends = (0..info.capabilities()).any(|n| {
            info.transfer(n).is_some_and(|transfer| transfer.mode == libpks::abi::message::TransferMode::Lend)
        });
        if !info.is_valid() || lends {
            return Err(Error::BadMessage);
        }
        let from = self.activations[activation].seat;
        let to = match self.activations[activation].below {
            Some(below) => self.activations[below].seat,
            None if self.threads[thread].orphan => {
                self.drop_moves(info, words, from.domain);
                return Ok(());
            }
            None => self.threads[thread].home,
        };
        self.transfer(info, words, from.domain, to.domain)?;
        self.copy_buffer(&from, &to, info.bytes());
        Ok(())
    }

    /// Takes a thread out of its innermost call: loans come back, what was open there is closed, the activation is free
    /// for the next caller. Its record is as it came through the gate. Gives whether there is somebody to go back to;
    /// if not, the thread has ended.
    pub(crate) fn leave_call(&mut self, thread: Ref<Thread>) -> bool {
        let Some(at) = self.go_out(thread) else { return true };
        let books = &mut self.activations[at];
        let loans = core::mem::take(&mut books.loans);
        let openings = books.seat.openings.take();
        let (rsp, endpoint, server) = (books.caller_rsp, books.endpoint, books.seat.domain);
        self.drop_openings(server, openings);
        self.put_back(at);
        let orphan = self.threads[thread].top.is_none() && self.threads[thread].orphan;
        if orphan {
            self.end_thread(thread, Ending::Killed);
        } else {
            self.take_what_is_lent(thread);
            let mut record =
                Record { rip: gate_landing_address(), rsp, rflags: RFLAGS_START, ..Record::default() };
            record.r11 = Info::failed(Error::PeerDiedMidCall).raw();
            self.threads[thread].record = record;
        }
        // What was lent may have been the last capability to anything, this endpoint too: the call is over by now.
        for loan in loans {
            self.end_loan(loan);
        }
        if self.endpoints.get(endpoint).is_some_and(|endpoint| endpoint.refs == 0) {
            self.destroy_endpoint(endpoint);
        }
        // More than one, because a caller whose capability has gone meanwhile takes no activation.
        while self.accept_next(endpoint) {}
        !orphan
    }
}
