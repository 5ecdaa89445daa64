//! Domains: private memory under a key, a capability space, threads, a memory quota, a budget of CPU time.

mod image;
mod load;
mod memory;
mod quota;
mod revive;
mod stop;

pub(crate) use quota::{Payer, Quota};
pub(crate) use revive::Warden;

use crate::arch::clock;
use crate::ipc::{Activation, Endpoint, Signal};
use crate::list::{Links, List};
use crate::mem::{self, PAGE, translations};
use crate::object::Ref;
use crate::rights::Opening;
use crate::sched::Renewal;
use crate::state::Kernel;
use crate::thread::Thread;
use crate::view::{Placement, View};
use libpks::abi::inspect::DomainState;
use libpks::abi::{Error, Name, layout};
use libpks::budget::{Account, Budget, Share};
use libpks::cap::Owner;
use libpks::pkey::{Pkey, Rights};
use libpks::sharing::{Member, Spread};

/// Bytes that a capability costs its holder: two nodes, because dead ones that hold a tree together are always fewer
/// than the live.
const CAP_BYTES: u64 = 2 * size_of::<libpks::table::Slot<libpks::cap::Node>>() as u64;
/// How many capabilities a domain may hold for each page of its quota, at least [`CAPS_LEAST`].
const CAPS_PER_PAGE: u64 = 1;
const CAPS_LEAST: u64 = 64;
const CAPS_MOST: u64 = 65_536;

/// Which contexts of a slot are in use.
#[derive(Debug)]
pub(crate) struct Contexts {
    used: [u64; (layout::CONTEXT_COUNT / 64) as usize],
    /// Pages of stack, by context, for those in use.
    pub(crate) stack_pages: [u8; layout::CONTEXT_COUNT as usize],
}

impl Contexts {
    /// All free.
    const fn new() -> Contexts {
        Contexts {
            used: [0; (layout::CONTEXT_COUNT / 64) as usize],
            stack_pages: [0; layout::CONTEXT_COUNT as usize],
        }
    }

    fn take(&mut self) -> Option<u32> {
        let word = self.used.iter().position(|&word| word != u64::MAX)?;
        let bit = self.used[word].trailing_ones();
        self.used[word] |= 1 << bit;
        Some(word as u32 * 64 + bit)
    }

    fn release(&mut self, context: u32) {
        self.used[context as usize / 64] &= !(1 << (context % 64));
    }

    fn is_used(&self, context: u32) -> bool {
        self.used[context as usize / 64] & (1 << (context % 64)) != 0
    }
}

/// A domain.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) name: Name,
    pub(crate) state: DomainState,
    pub(crate) priority: u8,
    /// Number of the boot module that it was loaded from.
    pub(crate) module: Option<usize>,
    /// First address of its slot.
    pub(crate) base: u64,
    /// Bytes of the slot that the image takes.
    pub(crate) image_bytes: u64,
    pub(crate) heap_bytes: u64,
    /// Where its first thread begins.
    pub(crate) entry: u64,
    /// Where it lives as long as it is named; none for the idle domain, which is nowhere.
    pub(crate) view: Option<Ref<View>>,
    /// Its neighbours there.
    pub(crate) view_links: Links<Domain>,
    /// Its private memory's part in a sharing class of its own.
    member: Option<Member>,
    /// The key of its private memory; none for the idle domain, which has no memory.
    pub(crate) key: Option<Pkey>,
    pub(crate) quota: Ref<Quota>,
    pub(crate) quota_bytes: u64,
    pub(crate) used_bytes: u64,
    /// What of that is for objects that may outlive the domain: regions, endpoints, notifications, threads.
    lasting_bytes: u64,
    pub(crate) contexts: Contexts,
    /// What all its threads have open.
    pub(crate) openings: Option<Ref<Opening>>,
    /// Threads that began in it and have not ended, and how many they are.
    pub(crate) homes: List<Thread>,
    pub(crate) threads: u32,
    /// The endpoints that it serves, and all of its activations.
    pub(crate) served: List<Endpoint>,
    pub(crate) activations: List<Activation>,
    /// Who hears of its end.
    pub(crate) on_end: Option<Signal>,
    /// Number of the fault report by which it ended.
    pub(crate) fault: Option<u64>,
    pub(crate) calls: u64,
    /// The CPU time of its threads.
    pub(crate) account: Account,
    /// What it has of its quota's CPU time while it lives.
    pub(crate) share: Share,
    /// When it gets its next budget, should it have none.
    pub(crate) renewal: Renewal,
    /// How long a call that it serves may go on beyond the budget of who pays for it, in nanoseconds.
    pub(crate) overrun_ns: u64,
    /// Capabilities that name it.
    pub(crate) refs: u32,
    /// How it will have ended when this event is over.
    ends_as: Option<DomainState>,
    /// Whether it is in the list of those that are looked after when this event is over, and the next there.
    doomed: bool,
    next_doomed: Option<Ref<Domain>>,
}

impl Domain {
    /// Whether it may run.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, DomainState::Created | DomainState::Running)
    }
}

impl Kernel {
    /// A domain without memory, for the idle threads.
    pub(crate) fn create_idle_domain(&mut self) -> Result<Ref<Domain>, Error> {
        let quota = self.quotas.insert(Quota::EMPTY)?;
        // Nobody is charged for idling.
        let request = DomainRequest {
            name: "idle",
            quota,
            bytes: 0,
            priority: 0,
            budget: Budget::DEFAULT,
            overrun_ns: 0,
            placement: Placement::Anywhere,
        };
        let mut domain = empty_domain(&request);
        domain.state = DomainState::Running;
        domain.refs = 1;
        let idle = self.domains.insert(domain)?;
        self.caps.open_space(Owner(idle.number()), 0)?;
        Ok(idle)
    }

    /// Makes a domain from a boot module, for another one if it is not the first. It holds nothing and has no thread
    /// yet.
    ///
    /// # Errors
    /// `BadImage`, `AbiMismatch`, `LimitReached`, `KeysExhausted`, `QuotaExceeded`, `CpuExceeded`, `OutOfMemory`.
    /// Nothing is left of it then.
    pub(crate) fn create_domain(
        &mut self,
        maker: Option<Ref<Domain>>,
        module: usize,
        request: &DomainRequest<'_>,
    ) -> Result<Ref<Domain>, Error> {
        let &DomainRequest { quota, bytes, budget, placement, .. } = request;
        self.domains.reserve(1)?;
        self.take_quota(quota, bytes)?;
        let view = self.choose_view(maker, placement).inspect_err(|_| self.return_quota(quota, bytes))?;
        let domain = self.domains.insert(Domain { module: Some(module), ..empty_domain(request) })?;
        self.enter_view(domain, view, placement);
        let loaded = self.take_share(domain, budget.share()).and_then(|()| self.furnish(domain, module));
        if let Err(error) = loaded {
            self.return_share(domain);
            self.release_domain_memory(domain);
            self.empty_space(Owner(domain.number()));
            self.leave_view(domain);
            self.domains.remove(domain);
            self.return_quota(quota, bytes);
            return Err(error);
        }
        Ok(domain)
    }

    /// Gives a new domain its slot, its capability space, its key and its image.
    fn furnish(&mut self, domain: Ref<Domain>, module: usize) -> Result<(), Error> {
        let owner = Owner(domain.number());
        self.domains[domain].base =
            layout::slot_base(u64::from(domain.number())).ok_or(Error::LimitReached)?;
        self.caps.open_space(owner, self.room_for_caps(domain) as u32)?;
        self.furnish_memory(domain, module)
    }

    /// How many capabilities a domain may hold.
    fn room_for_caps(&self, domain: Ref<Domain>) -> u64 {
        (self.domains[domain].quota_bytes / PAGE * CAPS_PER_PAGE).clamp(CAPS_LEAST, CAPS_MOST)
    }

    /// Gives a domain its key and its image, and charges it for those and for its capability space.
    fn furnish_memory(&mut self, domain: Ref<Domain>, module: usize) -> Result<(), Error> {
        let owner = Owner(domain.number());
        self.charge(domain, self.room_for_caps(domain) * CAP_BYTES)?;
        let Domain { view: Some(view), base, .. } = self.domains[domain] else { return Err(Error::Gone) };
        let View { keys, tables, .. } = &mut self.views[view];
        let mut member = self.sharing.join(keys, owner, Rights::ReadWrite, Spread::OneView)?;
        let key = self.sharing.map(&mut member, keys);
        translations::note_keys(keys);
        self.domains[domain].member = Some(member);
        self.domains[domain].key = Some(key?);
        mem::with(|memory| tables.show_slot(memory, base)).map_err(|_| Error::OutOfMemory)?;
        self.load_image(domain, module)
    }
}

/// What a domain is made of, beside its image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DomainRequest<'a> {
    pub(crate) name: &'a str,
    /// Where its memory and its CPU time are taken from.
    pub(crate) quota: Ref<Quota>,
    pub(crate) bytes: u64,
    pub(crate) priority: u8,
    pub(crate) budget: Budget,
    pub(crate) overrun_ns: u64,
    pub(crate) placement: Placement,
}

fn empty_domain(request: &DomainRequest<'_>) -> Domain {
    let &DomainRequest { name, quota, bytes: quota_bytes, priority, budget, overrun_ns, .. } = request;
    Domain {
        name: libpks::abi::name(name),
        state: DomainState::Created,
        priority,
        module: None,
        base: 0,
        image_bytes: 0,
        heap_bytes: 0,
        entry: 0,
        view: None,
        view_links: Links::NONE,
        member: None,
        key: None,
        quota,
        quota_bytes,
        used_bytes: 0,
        lasting_bytes: 0,
        contexts: Contexts::new(),
        openings: None,
        homes: List::EMPTY,
        threads: 0,
        served: List::EMPTY,
        activations: List::EMPTY,
        on_end: None,
        fault: None,
        calls: 0,
        account: Account::new(budget, clock::now_ns()),
        share: Share::NONE,
        renewal: Renewal::default(),
        overrun_ns,
        refs: 0,
        ends_as: None,
        doomed: false,
        next_doomed: None,
    }
}
