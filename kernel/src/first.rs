//! The first threads: one that idles for each CPU, and the domain `init`, which holds everything there is to hold.

use crate::arch::record::{RFLAGS_START, Record};
use crate::device::{ALL_LINES, PortRange};
use crate::domain::{Domain, DomainRequest, Quota, Warden};
use crate::mem;
use crate::object::Ref;
use crate::sched::CpuBooks;
use crate::state::Kernel;
use crate::thread::{Seat, Thread};
use crate::view::Placement;
use core::fmt::Write;
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::abi::{Error, Name, name};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS, Share};
use libpks::cap::{CapRights, Capability, ObjectId, ObjectKind, Owner};
use libpks::manifest_head::{Head, INIT, Reader, RestartPolicy};
use libpks::pkey::Pkrs;
use libpks::table::Table;

/// Frames that stay with the kernel, for page tables and its own objects: a sixteenth, at least 4 MiB.
const KERNEL_SHARE: u64 = 16;
const KERNEL_LEAST: u64 = 4 << 20;
/// The region in which `init` keeps what the next one is to know.
const HEIRLOOM_BYTES: u64 = 128 << 10;
/// The boot module with the manifest.
const MANIFEST: &str = "manifest";
/// What `init` gets where no manifest says: enough to say what is wrong.
const WITHOUT_MANIFEST: Head = Head {
    priority: 255,
    own_view: false,
    memory_bytes: 4 << 20,
    stack_bytes: 64 << 10,
    budget: Budget::DEFAULT,
    overrun_ns: OVERRUN_DEFAULT_NS,
    restart: RestartPolicy::Stop,
};

/// What a CPU does that has nothing to do: waits for an interrupt, in a domain that may touch nothing. Where each rights word
/// has a root it stays on the kernel's, since its text is nowhere else.
#[unsafe(naked)]
extern "C" fn idle_loop() -> ! {
    core::arch::naked_asm!("2: sti", "hlt", "jmp 2b")
}

impl Kernel {
    /// An idle thread for each CPU.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn create_idle_threads(&mut self) -> Result<(), Error> {
        let domain = self.create_idle_domain()?;
        for (cpu, &root) in self.boot.cpus.iter().zip(crate::roots()) {
            let seat = Seat { domain, context: 0, openings: None, word: Pkrs::DEFAULT, buffer: 0 };
            let record =
                Record { rip: idle_loop as *const () as u64, rflags: RFLAGS_START, ..Record::default() };
            let idle = self.threads.insert(Thread::new(seat, 0, record))?;
            self.cpus.push(CpuBooks::new(cpu.apic_id, idle, root))?;
        }
        Ok(())
    }

    /// Makes and starts `init`.
    ///
    /// # Errors
    /// `NotFound` without a module of that name; those of making a domain and a thread.
    pub(crate) fn start_init(&mut self) -> Result<(), Error> {
        let module = self.module_named(INIT).ok_or(Error::NotFound)?;
        let head = self.manifest_head();
        let free = mem::with(|memory| memory.frames.free_count()) * mem::PAGE;
        let share = (free / KERNEL_SHARE).max(KERNEL_LEAST);
        let root =
            self.quotas.insert(Quota { free_bytes: free.saturating_sub(share), free_share: Share::TOTAL })?;
        let Head { priority, own_view, memory_bytes, budget, overrun_ns, .. } = head;
        let request = DomainRequest {
            name: INIT,
            quota: root,
            bytes: memory_bytes,
            priority,
            budget,
            overrun_ns,
            placement: if own_view { Placement::Alone } else { Placement::Anywhere },
        };
        let init = self.create_domain(None, module, &request)?;
        // The kernel itself keeps one reference: nobody else could stop it.
        self.domains[init].refs = 1;
        let info = self.endow(init, root)?;
        self.warden = Some(Warden::new(init, info));
        self.start_warden()
    }

    fn module_named(&self, name: &str) -> Option<usize> {
        self.boot.modules.iter().position(|module| module.name == name)
    }

    /// The manifest, if there is one that the kernel understands.
    pub(crate) fn manifest(&self) -> Option<Reader<'static>> {
        Reader::new(self.module_bytes(self.module_named(MANIFEST)?).ok()?)
    }

    /// What the manifest gives to `init`. A manifest that is missing or malformed is for `init` to report.
    pub(crate) fn manifest_head(&self) -> Head {
        self.manifest().and_then(|manifest| manifest.head()).unwrap_or(WITHOUT_MANIFEST)
    }

    /// Gives `init` the capabilities to everything.
    fn endow(&mut self, init: Ref<Domain>, quota: Ref<Quota>) -> Result<StartInfo, Error> {
        let ports = self.ports.insert(PortRange { first: 0, last: u16::MAX, refs: 1 })?;
        let single = |kind| ObjectId { kind, index: 0, generation: 1 };
        let all = CapRights::READ | CapRights::WRITE | CapRights::GRANT | CapRights::MANAGE;
        let objects = [
            ("quota", quota.object(ObjectKind::MemoryQuota)),
            ("log", single(ObjectKind::KernelLog)),
            ("power", single(ObjectKind::Power)),
            ("inspect", single(ObjectKind::Inspect)),
            ("self-test", single(ObjectKind::SelfTest)),
            ("key-pool", single(ObjectKind::KeyPool)),
            ("ports", ports.object(ObjectKind::IoPorts)),
            ("irqs", ObjectId { kind: ObjectKind::IrqLine, index: ALL_LINES, generation: 1 }),
        ];
        let mut info = StartInfo {
            name: name("init"),
            args: heapless::String::new(),
            restarts: 0,
            caps: heapless::Vec::new(),
        };
        info.args.push_str(&self.boot.command_line).map_err(|_| Error::TooLarge)?;
        let modules = self.boot.modules.iter().enumerate().map(|(n, module)| {
            let mut text = Name::new();
            let _ = write!(text, "module:{}", module.name);
            (text, ObjectId { kind: ObjectKind::BootModule, index: n as u32, generation: 1 })
        });
        for (text, object) in objects.into_iter().map(|(text, object)| (name(text), object)).chain(modules) {
            let capability = Capability { object, rights: all, badge: 0 };
            let handle = self.caps.insert_root(Owner(init.number()), capability).map_err(Error::from)?;
            let named = NamedCap { name: text, handle: handle.raw() };
            info.caps.push(named).map_err(|_| Error::LimitReached)?;
        }
        let (heirloom, _) = self.create_region(init, HEIRLOOM_BYTES, None)?;
        let named = NamedCap { name: name("heirloom"), handle: heirloom.raw() };
        info.caps.push(named).map_err(|_| Error::LimitReached)?;
        Ok(info)
    }
}
