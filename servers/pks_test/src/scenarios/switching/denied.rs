//! What a thread may not do, done in each of its turns.
//!
//! The kernel tells of a thread's word by its own records. What the CPU has is in the report of a fault: so a thread
//! that has just been switched to makes an access that must be denied. Whoever judges reads the report, puts the page
//! under the key that is open for all, behind the back of the kernel's books, until the access has been made again,
//! and puts it back. The thread's word never changes.

use libpks::abi::Error;
use libpks::pkey::{Access, Pkey, Pkrs};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Instant, Notification};

use crate::bench::Tools;
use crate::subject::{DONE, FAULT, PATIENCE, STEP, Subject, access, check_key_fault};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Where in a page it is made.
pub(super) const PLACE: u64 = 24;

/// An access that must be denied to a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denied {
    pub(super) raw: Unguarded,
    pub(super) access: Access,
    /// The page's key.
    pub(super) key: Pkey,
    /// Lets the thread go on.
    pub(super) go: Notification,
}

/// Whose thread it is, and what must be seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) cpu: u32,
    pub(super) word: Pkrs,
}

impl Denied {
    /// The thread's side. `note` is where it says that the access has been made.
    ///
    /// # Errors
    /// `TimedOut` if nobody judges.
    pub(super) fn attempt(&self, note: Notification) -> Result<(), Error> {
        access(&self.raw, PLACE, self.access, 0)?;
        note.signal(STEP)?;
        self.go.wait(Some(Instant::after(PATIENCE))).map(drop)
    }

    /// The other side: it must fault, on its CPU, under its word; then it goes on.
    pub(super) fn judge<T: Send + 'static>(
        &self,
        tools: &Tools,
        checks: &Checks,
        subject: &Subject<T>,
        expected: Expected,
        what: core::fmt::Arguments<'_>,
    ) -> Run {
        let event = subject.until(FAULT | STEP | DONE)?;
        checks.that(event == FAULT, format_args!("{what}: {} did not fault", self.access))?;
        let report = subject.report()?;
        let address = self.raw.address() + PLACE;
        check_key_fault(checks, &report, address, self.access, self.key, expected.word)?;
        checks.same(format_args!("{what}: the CPU of the fault"), report.cpu, expected.cpu)?;
        let opened = tools.tamper_with_leaf(self.raw.address(), Pkey::OPEN)?;
        subject.thread().resume()?;
        subject.until(STEP)?;
        drop(opened);
        Ok(self.go.signal(1)?)
    }
}
