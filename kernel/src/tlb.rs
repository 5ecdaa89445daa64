//! Translations that other CPUs have to forget.

use crate::arch::{apic, clock, insn, window};
use crate::boot::MAX_CPUS;
use crate::lock;
use crate::mem::{PAGE, translations};
use crate::state::Kernel;
use libpks::table::Table;
use libpks::translations::Event;
use spin::Mutex;

/// A range: address and pages.
type Range = (u64, u64);

/// What each CPU must forget before it runs a domain again. Emptied by the CPU itself, when it has entered the kernel
/// and while it waits for the lock.
static STALE: [Mutex<heapless::Vec<Range, 16>>; MAX_CPUS] =
    [const { Mutex::new(heapless::Vec::new()) }; MAX_CPUS];

/// Forgets what others asked this CPU to forget.
pub(crate) fn forget_stale(cpu: usize) {
    let ranges = core::mem::take(&mut *STALE[cpu].lock());
    for range in ranges {
        forget(range);
    }
}

fn forget((address, pages): Range) {
    for page in 0..pages {
        insn::invalidate_page(address + page * PAGE);
    }
}

/// How long a CPU may take to follow a kick before it gets an NMI.
const PATIENCE_NS: u64 = 2_000_000;

impl Kernel {
    /// Asks the CPUs into the kernel that run a domain, and waits until all are inside. What they find when they leave
    /// is what the books say then.
    pub(crate) fn sync_cpus(&mut self) {
        let own = window::cpu();
        let others = (0..self.cpus.len() as usize).filter(|&cpu| cpu != own);
        for cpu in others.clone().filter(|&cpu| !lock::is_inside(cpu)) {
            apic::kick(self.cpu(cpu).apic_id);
        }
        for cpu in others {
            self.wait_until_inside(cpu);
        }
        translations::step(|| Some(Event::Synced { cpu: translations::this_cpu()? }));
    }

    /// Waits for a CPU that was kicked. A domain that has switched interrupts off does not hear that; the NMI switches
    /// them on again, and then the kick arrives.
    fn wait_until_inside(&mut self, cpu: usize) {
        let mut since = clock::now_ns();
        while !lock::is_inside(cpu) {
            let now = clock::now_ns();
            if now.saturating_sub(since) > PATIENCE_NS {
                apic::send_nmi(self.cpu(cpu).apic_id);
                since = now;
            }
            core::hint::spin_loop();
        }
    }

    /// Makes every CPU forget its translations of a range. When it returns no CPU runs a domain with one, and none will.
    pub(crate) fn invalidate(&mut self, address: u64, pages: u64) {
        forget((address, pages));
        let own = window::cpu();
        for cpu in (0..self.cpus.len() as usize).filter(|&cpu| cpu != own) {
            while STALE[cpu].lock().push((address, pages)).is_err() {
                // It empties the list as soon as it is inside.
                if !lock::is_inside(cpu) {
                    apic::kick(self.cpu(cpu).apic_id);
                    self.wait_until_inside(cpu);
                }
                core::hint::spin_loop();
            }
        }
        self.sync_cpus();
        translations::step(|| Some(Event::Invalidated { cpu: translations::this_cpu()?, address, pages }));
    }
}
