//! Translations that other CPUs have to forget, and how CPUs that run a domain are got into the kernel.

use crate::arch::{apic, clock, insn, window};
use crate::lock::PRESENCE;
use crate::mem::{PAGE, translations};
use crate::state::Kernel;
use libpks::smp::{Bell, Range};
use libpks::table::Table;
use libpks::translations::Event;

/// Ranges that a CPU can be asked to forget before somebody has to wait for it.
pub(crate) const RANGES: usize = 16;

/// Forgets what others asked this CPU to forget.
pub(crate) fn forget_stale(cpu: usize) {
    PRESENCE.forget(cpu, forget);
}

/// Forgets this CPU's translations of a range.
pub(crate) fn forget((address, pages): Range) {
    for page in 0..pages {
        insn::invalidate_page(address + page * PAGE);
    }
}

/// How long a CPU may take to follow a kick before it gets an NMI.
const PATIENCE_NS: u64 = 2_000_000;

/// Kicks CPUs by interrupts. A domain that has switched them off does not hear that; an NMI switches them on again, and
/// then the kick arrives.
struct Kicks<'a> {
    kernel: &'a mut Kernel,
    /// When a CPU was kicked last, or sent an NMI.
    since: u64,
}

impl Kicks<'_> {
    /// A function of its own, so that a debugger can stop where a CPU that was kicked is waited for.
    #[inline(never)]
    fn await_cpu(&mut self, cpu: usize) {
        let now = clock::now_ns();
        if now.saturating_sub(self.since) > PATIENCE_NS {
            apic::send_nmi(self.kernel.cpu(cpu).apic_id);
            self.since = now;
        }
        core::hint::spin_loop();
    }
}

impl Bell for Kicks<'_> {
    fn kick(&mut self, cpu: usize) {
        apic::kick(self.kernel.cpu(cpu).apic_id);
        self.since = clock::now_ns();
    }

    fn wait(&mut self, cpu: usize) {
        self.await_cpu(cpu);
    }
}

impl Kernel {
    /// All CPUs but this one, and how to get them in.
    fn others(&mut self) -> (impl Iterator<Item = usize> + Clone + use<>, Kicks<'_>) {
        let own = window::cpu();
        let others = (0..self.cpus.len() as usize).filter(move |&cpu| cpu != own);
        (others, Kicks { kernel: self, since: clock::now_ns() })
    }

    /// Asks the CPUs into the kernel that run a domain, and waits until all are inside. What they find when they leave
    /// is what the books say then.
    pub(crate) fn sync_cpus(&mut self) {
        let (others, mut kicks) = self.others();
        PRESENCE.gather(others, &mut kicks);
        translations::step(|| Some(Event::Synced { cpu: translations::this_cpu()? }));
    }

    /// Makes every CPU forget its translations of a range. When it returns no CPU runs a domain with one, and none will.
    pub(crate) fn invalidate(&mut self, address: u64, pages: u64) {
        forget((address, pages));
        let (others, mut kicks) = self.others();
        PRESENCE.invalidate((address, pages), others, &mut kicks);
        translations::step(|| Some(Event::Synced { cpu: translations::this_cpu()? }));
        translations::step(|| Some(Event::Invalidated { cpu: translations::this_cpu()?, address, pages }));
    }
}
