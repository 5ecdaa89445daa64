//! Death by a test: a domain ends by a fault in its name, at whatever it is doing.

use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use libpks::abi::Error;
use libpks::abi::fault::FaultKind;
use libpks::abi::inspect::DomainState;

impl Kernel {
    /// See [`libpks::abi::selftest::SelfTestOp::Kill`].
    pub(super) fn kill_domain(&mut self, number: u64) -> Result<[u64; 8], Error> {
        // The idle domain is the kernel's own.
        let number = u32::try_from(number).ok().filter(|&number| number > 0).ok_or(Error::NotFound)?;
        let domain = self.domains.at_number(number).ok_or(Error::NotFound)?;
        if !self.domains[domain].is_alive() {
            return Err(Error::NotFound);
        }
        let inside = |thread: &Ref<Thread>| {
            self.threads[*thread].ending.is_none() && self.seat(*thread).domain == domain
        };
        match (0..self.threads.capacity()).filter_map(|n| self.threads.at_number(n)).find(inside) {
            Some(thread) => self.fault(thread, Some((FaultKind::Panic, "killed by a test"))),
            // All its threads are out on calls, so there is nobody to blame.
            None => self.doom(domain, DomainState::Faulted),
        }
        Ok([0; 8])
    }
}
