//! Threads of this domain.

use super::gate::{syscall, syscall_until};
use super::handle::{Owned, capabilities};
use super::notification::Notification;
use super::region::{Access, Region};
use super::sync::Mutex;
use super::time::{Instant, deadline_word};
use super::{buffer, envelope, start};
use crate::abi::fault::FaultReport;
use crate::abi::{Error, Syscall};
use crate::cap::ObjectKind;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::arch::naked_asm;

capabilities! {
    /// A thread.
    Thread, Some(ObjectKind::Thread);
}

impl Thread {
    /// The calling thread, with all rights.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub fn current() -> Result<Owned<Self>, Error> {
        Ok(Owned::from_word(syscall(Syscall::ThreadSelf, [])?.words[0]))
    }

    /// Waits until it has ended, and gives its exit code.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Gone`] if it was killed.
    pub fn join(self, deadline: Option<Instant>) -> Result<i32, Error> {
        Ok(syscall_until(Syscall::ThreadJoin, [self.word()], deadline_word(deadline))?.words[0] as i32)
    }

    /// Kills it. Locks that it holds stay taken, and nothing on its stack is dropped.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn kill(self) -> Result<(), Error> {
        syscall(Syscall::ThreadKill, [self.word()]).map(drop)
    }

    /// Lets it run on one CPU only, or on any (`None`).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no such CPU.
    pub fn bind(self, cpu: Option<u32>) -> Result<(), Error> {
        syscall(Syscall::ThreadBind, [self.word(), cpu.map_or(u64::MAX, u64::from)]).map(drop)
    }

    /// Signals `bits` when it faults, where it then stands, instead of ending the domain.
    ///
    /// # Errors
    /// Those of [`Capability`](super::Capability).
    pub fn on_fault(self, notification: Notification, bits: u64) -> Result<(), Error> {
        syscall(Syscall::ThreadOnFault, [self.word(), notification.word(), bits]).map(drop)
    }

    /// The fault at which it stands.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it does not stand at a fault.
    pub fn fault(self) -> Result<Box<FaultReport>, Error> {
        let answer = syscall(Syscall::ThreadFault, [self.word()])?;
        let mut bytes = vec![0; answer.bytes()];
        buffer::take(&mut bytes);
        envelope::from_bytes(&bytes)
    }

    /// Sets what it may do with a region while it is stopped.
    ///
    /// # Errors
    /// [`Error::WrongState`], [`Error::RightsExceeded`].
    pub fn set_rights(self, region: Region, access: Access) -> Result<(), Error> {
        syscall(Syscall::ThreadSetRights, [self.word(), region.word(), access as u64]).map(drop)
    }

    /// Lets it go on from the fault at which it stands.
    ///
    /// # Errors
    /// [`Error::WrongState`].
    pub fn resume(self) -> Result<(), Error> {
        syscall(Syscall::ThreadResume, [self.word()]).map(drop)
    }
}

/// A thread that was spawned, and what it will give.
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: Owned<Thread>,
    value: Arc<Mutex<Option<T>>>,
}

impl<T> JoinHandle<T> {
    /// The thread.
    pub fn thread(&self) -> Thread {
        *self.thread
    }

    /// Waits until it has ended, and gives what its closure gave.
    ///
    /// # Errors
    /// [`Error::TimedOut`], after which one may wait again; [`Error::Gone`] if it was killed, ended itself with
    /// [`start::exit`], or was joined before.
    pub fn join(&self, deadline: Option<Instant>) -> Result<T, Error> {
        self.thread.join(deadline)?;
        self.value.lock().take().ok_or(Error::Gone)
    }
}

type Body = Box<dyn FnOnce() + Send>;

/// Runs `body` in a new thread with `stack_bytes` of stack and a priority that is at most the domain's.
///
/// # Errors
/// [`Error::InvalidArgument`], [`Error::LimitReached`], [`Error::QuotaExceeded`].
pub fn spawn<T: Send + 'static>(
    stack_bytes: u64,
    priority: u8,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    let value = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&value);
    let body: Body = Box::new(move || {
        let result = body();
        *slot.lock() = Some(result);
    });
    let argument = Box::into_raw(Box::new(body));
    let entry = thread_entry as unsafe extern "sysv64" fn() -> ! as usize as u64;
    let arguments = [entry, argument.expose_provenance() as u64, stack_bytes, u64::from(priority)];
    match syscall(Syscall::ThreadCreate, arguments) {
        Ok(answer) => Ok(JoinHandle { thread: Owned::from_word(answer.words[0]), value }),
        Err(error) => {
            // SAFETY: it came from `Box::into_raw` above, and no thread was made that would take it.
            drop(unsafe { Box::from_raw(argument) });
            Err(error)
        }
    }
}

/// Where a thread begins: RDI is the argument, RSP the end of its stack.
///
/// # Safety
/// Only the kernel enters here, once for each argument that `spawn` gave it.
#[unsafe(naked)]
unsafe extern "sysv64" fn thread_entry() -> ! {
    naked_asm!("xor ebp, ebp", "cld", "call {run}", "ud2", run = sym run)
}

/// # Safety
/// `argument` came from `spawn`, and this is the only call with it.
unsafe extern "sysv64" fn run(argument: usize) -> ! {
    // SAFETY: by this function's contract it is the result of `Box::into_raw` in `spawn`, not taken back before.
    let body = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Body>(argument)) };
    body();
    start::exit(0)
}
