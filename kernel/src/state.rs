//! Everything the kernel knows, behind its one lock.

use crate::arch::acpi::SoftOff;
use crate::arch::ioapic::IoApics;
use crate::boot::{Boot, MAX_MODULES};
use crate::device::{Lines, PortRange};
use crate::domain::{Domain, Quota, Warden};
use crate::fault::Faults;
use crate::ipc::{Activation, Endpoint, Notification, Signal};
use crate::list::List;
use crate::mem::{NarrowRoots, ReservedTable, ViewTables};
use crate::object::{Objects, Ref};
use crate::region::{Facet, PooledKey, Region};
use crate::rights::Opening;
use crate::sched::CpuBooks;
use crate::thread::Thread;
use crate::view::View;
use libpks::cap::{CapTable, Node, Space};
use libpks::sharing::{Class, Holder, Sharing};
use libpks::table::Slot;

/// The kernel's state.
pub(crate) struct Kernel {
    pub(crate) boot: &'static Boot,
    /// Boot modules whose image has been checked and may be loaded.
    pub(crate) passed_images: [bool; MAX_MODULES],
    pub(crate) caps: CapTable<ReservedTable<Slot<Node>>, ReservedTable<Space>>,
    pub(crate) sharing: Sharing<ReservedTable<Slot<Class>>, ReservedTable<Slot<Holder>>>,
    pub(crate) views: Objects<View>,
    /// Where each rights word has a root: those of each CPU, and the tables on which the kernel itself runs.
    pub(crate) narrow_roots: ReservedTable<NarrowRoots>,
    pub(crate) ground: Option<ViewTables>,
    /// So many domains that may be anywhere are put into one.
    pub(crate) view_room: u32,
    pub(crate) domains: Objects<Domain>,
    /// `init`, and what it takes to start it again.
    pub(crate) warden: Option<Warden>,
    /// The first of the domains that end when this event is over.
    pub(crate) doomed: Option<Ref<Domain>>,
    pub(crate) threads: Objects<Thread>,
    /// Places in the table of threads that are kept free: one for each activation.
    pub(crate) spare_threads: u32,
    pub(crate) activations: Objects<Activation>,
    pub(crate) endpoints: Objects<Endpoint>,
    pub(crate) notifications: Objects<Notification>,
    pub(crate) regions: Objects<Region>,
    pub(crate) facets: Objects<Facet>,
    pub(crate) openings: Objects<Opening>,
    pub(crate) pooled_keys: Objects<PooledKey>,
    pub(crate) ports: Objects<PortRange>,
    pub(crate) quotas: Objects<Quota>,
    pub(crate) cpus: ReservedTable<CpuBooks>,
    /// The threads that have a deadline, the next first.
    pub(crate) timers: List<Thread>,
    /// The domain without a budget that gets its next one first.
    pub(crate) depleted: Option<Ref<Domain>>,
    pub(crate) faults: Faults,
    pub(crate) lines: Lines,
    pub(crate) io_apics: IoApics,
    pub(crate) soft_off: Option<SoftOff>,
    pub(crate) log_reader: Option<Signal>,
    /// The domain that drains the log.
    pub(crate) log_drainer: Option<Ref<Domain>>,
    /// Bytes of the log that it has read.
    pub(crate) log_drained: u64,
    /// Bytes of the log that the reader was told of.
    pub(crate) log_told: u64,
    /// The region with the lowest address.
    pub(crate) first_region: Option<Ref<Region>>,
}

impl Kernel {
    /// The kernel at the end of bring-up, without domains.
    pub(crate) fn new(
        boot: &'static Boot,
        view_room: u32,
        io_apics: IoApics,
        soft_off: Option<SoftOff>,
    ) -> Kernel {
        Kernel {
            boot,
            passed_images: [false; MAX_MODULES],
            caps: CapTable::new(ReservedTable::new(), ReservedTable::new()),
            sharing: Sharing::new(ReservedTable::new(), ReservedTable::new()),
            views: Objects::new(),
            narrow_roots: ReservedTable::new(),
            ground: None,
            view_room,
            domains: Objects::new(),
            warden: None,
            doomed: None,
            threads: Objects::new(),
            spare_threads: 0,
            activations: Objects::new(),
            endpoints: Objects::new(),
            notifications: Objects::new(),
            regions: Objects::new(),
            facets: Objects::new(),
            openings: Objects::new(),
            pooled_keys: Objects::new(),
            ports: Objects::new(),
            quotas: Objects::new(),
            cpus: ReservedTable::new(),
            timers: List::EMPTY,
            depleted: None,
            faults: Faults::new(),
            lines: Lines::default(),
            io_apics,
            soft_off,
            log_reader: None,
            log_drainer: None,
            log_drained: 0,
            log_told: 0,
            first_region: None,
        }
    }
}
