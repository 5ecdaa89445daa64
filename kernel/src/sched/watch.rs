//! CPUs that do not come into the kernel any more.

use super::LONGEST_NS;
use crate::arch::{apic, window};
use crate::lock;
use crate::state::Kernel;
use libpks::table::Table;

/// A CPU that has not been in the kernel for so long runs a domain that has switched interrupts off: its timer would
/// have brought it in several times.
const WEDGED_NS: u64 = 5 * LONGEST_NS;

impl Kernel {
    /// Sends an NMI to each CPU that has not been in the kernel for too long. It lets interrupts in again there; to a
    /// CPU that is well it does nothing.
    pub(crate) fn watch_cpus(&mut self, now: u64) {
        let own = window::cpu();
        for cpu in (0..self.cpus.len() as usize).filter(|&cpu| cpu != own) {
            let books = self.cpu(cpu);
            if now.saturating_sub(books.seen) > WEDGED_NS && !lock::is_inside(cpu) {
                books.seen = now;
                apic::send_nmi(books.apic_id);
            }
        }
    }
}
