//! Operations of a thread on itself and on threads.

use super::{Answer, Outcome, Request, misrouted};
use crate::arch::clock;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::{Ending, State, Thread, ThreadRequest, outcome_of};
use libpks::abi::fault::FaultKind;
use libpks::abi::{Error, Syscall, layout};
use libpks::cap::{CapRights, ObjectKind};
use libpks::pkey::Rights;
use libpks::table::Table;

/// All rights to a thread.
const ALL: CapRights = CapRights::READ
    .union(CapRights::WRITE)
    .union(CapRights::WAIT)
    .union(CapRights::GRANT)
    .union(CapRights::MANAGE);

impl Kernel {
    pub(super) fn operate_self(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let thread = request.thread;
        match syscall {
            Syscall::Yield => {
                self.yield_current();
                Ok(Answer::NOTHING)
            }
            Syscall::Sleep => {
                if request.deadline == 0 {
                    return Err(Error::InvalidArgument);
                }
                self.block(thread, State::Sleeping, request.deadline);
                Ok(Answer::Later)
            }
            Syscall::Exit if self.threads[thread].top.is_some() => {
                self.fault(thread, Some((FaultKind::Panic, "exit inside of a call")));
                Ok(Answer::Later)
            }
            Syscall::Exit => {
                self.end_thread(thread, Ending::Exited(request.words[0]));
                Ok(Answer::Later)
            }
            Syscall::Abort => {
                let mut room = [0; layout::IPC_BUFFER_BYTES];
                let bytes = self.request_bytes(request, &mut room);
                let text = core::str::from_utf8(bytes).unwrap_or("(a message that is no text)");
                self.fault(thread, Some((FaultKind::Panic, text)));
                Ok(Answer::Later)
            }
            Syscall::Clock => Ok(Answer::one(clock::now_ns())),
            _ => misrouted(),
        }
    }

    pub(super) fn operate_thread(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [first, second, third, fourth, ..] = request.words;
        let named = |kernel: &Kernel, rights| {
            kernel.object::<Thread>(request.owner(), first, ObjectKind::Thread, rights)
        };
        match syscall {
            Syscall::ThreadCreate => {
                let priority = u8::try_from(fourth).map_err(|_| Error::InvalidArgument)?;
                let made = ThreadRequest { entry: first, argument: second, stack_bytes: third, priority };
                let thread = self.create_thread(request.domain, made)?;
                let handle = self.name_thread(request, thread);
                match handle {
                    Ok(_) => self.make_ready(thread),
                    Err(_) => self.end_thread(thread, Ending::Killed),
                }
                handle.map(Answer::one)
            }
            // In a call the thread is somebody else's.
            Syscall::ThreadSelf if self.threads[request.thread].top.is_some() => Err(Error::WrongState),
            Syscall::ThreadSelf => self.name_thread(request, request.thread).map(Answer::one),
            Syscall::ThreadJoin => self.join(request, named(self, CapRights::WAIT)?),
            Syscall::ThreadKill => {
                let thread = named(self, CapRights::MANAGE)?;
                self.kill_thread(thread);
                // A thread may name itself. In a call it goes on until that returns.
                let ended = self.threads.get(request.thread).is_none_or(|books| books.ending.is_some());
                Ok(if ended { Answer::Later } else { Answer::NOTHING })
            }
            Syscall::ThreadBind => self.bind(named(self, CapRights::MANAGE)?, second),
            Syscall::ThreadOnFault => {
                let thread = named(self, CapRights::MANAGE)?;
                let signal = self.signal_for(request, second, third)?;
                self.threads[thread].on_fault = Some(signal);
                Ok(Answer::NOTHING)
            }
            Syscall::ThreadFault => {
                let thread = named(self, CapRights::READ)?;
                let number = self.threads[thread].fault.ok_or(Error::WrongState)?;
                let mut report = self.faults.get(number).ok_or(Error::NotFound)?.clone();
                // Its rights may have been edited since.
                report.pkrs = self.seat(thread).word.raw();
                self.encoded(request.thread, [0; 8], &report)
            }
            Syscall::ThreadSetRights => self.set_recorded_rights(request, named(self, CapRights::MANAGE)?),
            Syscall::ThreadResume => {
                let thread = named(self, CapRights::MANAGE)?;
                self.threads[thread].fault.take().ok_or(Error::WrongState)?;
                self.unlink(thread);
                self.make_ready(thread);
                Ok(Answer::NOTHING)
            }
            _ => misrouted(),
        }
    }

    /// Gives the asking domain a capability to a thread.
    fn name_thread(&mut self, request: &Request, thread: Ref<Thread>) -> Result<u64, Error> {
        self.threads[thread].refs += 1;
        Ok(self.give_root(request.owner(), thread.object(ObjectKind::Thread), ALL)?.raw())
    }

    fn join(&mut self, request: &Request, thread: Ref<Thread>) -> Outcome {
        if thread == request.thread {
            return Err(Error::WouldDeadlock);
        }
        if let Some(ending) = self.threads[thread].ending {
            return outcome_of(ending).map(Answer::Words);
        }
        self.block(request.thread, State::Joining(thread), request.deadline);
        Ok(Answer::Later)
    }

    fn bind(&mut self, thread: Ref<Thread>, cpu: u64) -> Outcome {
        let bound = match cpu {
            u64::MAX => None,
            cpu if cpu < u64::from(self.cpus.len()) => Some(cpu as usize),
            _ => return Err(Error::InvalidArgument),
        };
        self.threads[thread].bound = bound;
        let elsewhere = |state| match state {
            State::Ready(cpu) | State::Running(cpu) => bound.is_some_and(|bound| bound != cpu),
            _ => false,
        };
        if elsewhere(self.threads[thread].state) {
            match self.threads[thread].state {
                State::Ready(_) => {
                    self.unlink(thread);
                    self.make_ready(thread);
                }
                // Where it runs it is asked to leave; there it is sent on.
                _ => self.sync_cpus(),
            }
        }
        Ok(Answer::NOTHING)
    }

    /// Edits what a stopped thread has open of a region, in its own domain.
    fn set_recorded_rights(&mut self, request: &Request, thread: Ref<Thread>) -> Outcome {
        let [_, region, rights, ..] = request.words;
        let rights = super::region::rights_from(rights)?;
        if self.threads[thread].state != State::Faulted || self.seat(thread).domain != request.domain {
            return Err(Error::WrongState);
        }
        let region = self.region_for(request.owner(), region, rights)?;
        let (mut at, mut edited) = (self.seat(thread).openings, false);
        while let Some(opening) = at {
            at = self.openings[opening].next;
            if self.openings[opening].region == region {
                self.openings[opening].rights = if edited { Rights::NoAccess } else { rights };
                edited = true;
            }
        }
        if !edited && rights > Rights::NoAccess {
            self.open_region(thread, region, rights)?;
        }
        self.recompute_word_of(thread);
        Ok(Answer::one(u64::from(self.seat(thread).word.raw())))
    }
}
