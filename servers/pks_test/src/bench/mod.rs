//! What a scenario is made of: the capabilities that it needs, pages under keys, a CPU to be bound to.

mod operations;

pub(crate) use operations::{Innermost, LeafAccess, LeafShape, Probed, UnkeyedPage, Words};

use core::arch::x86_64::__cpuid_count;
use core::ops::Deref;
use libpks::abi::Error;
use libpks::abi::inspect::{DomainState, Isolation};
use libpks::abi::layout::{KERNEL_BASE, PAGE};
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::rt::unguarded::Unguarded;

use libpks::rt::{Inspect, Key, KeyPool, Owned, Region, SelfTest, Thread};

use libpks::proto::pks_test::SERVER;
use libpks::proto::pks_test::checks::{Run, Stop};

/// Whether CR4 has the keys on that are said to be in use, and no others: CR4.PKS, CR4.PKE (Intel SDM vol. 3A, section 2.5).
pub(crate) const fn keys_on(isolation: Isolation, cr4: u64) -> bool {
    const PKS: u64 = 1 << 24;
    const PKU: u64 = 1 << 22;
    let bits = match isolation {
        Isolation::Pks => PKS,
        Isolation::Pku => PKU,
        Isolation::Views => 0,
    };
    cr4 & (PKS | PKU) == bits
}

/// Whether the CPU that the calling thread runs on names the keys that are said to be in use: CPUID.(EAX=7,ECX=0):ECX (Intel SDM vol. 2A,
/// CPUID). Views need none.
pub(crate) fn cpu_names_keys(isolation: Isolation) -> bool {
    const PKS: u32 = 1 << 31;
    const PKU: u32 = 1 << 3;
    let bits = match isolation {
        Isolation::Pks => PKS,
        Isolation::Pku => PKU,
        Isolation::Views => return true,
    };
    __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ecx & bits != 0
}

/// The writable bit of a page-table entry (SDM vol. 3A, table 4-20).
const WRITABLE: u64 = 1 << 1;
/// Pages of the kernel's image that are looked through for one of its data pages.
const KERNEL_PAGES: u64 = 4096;

/// The capabilities that scenarios need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) self_test: SelfTest,
    pub(crate) keys: KeyPool,
    pub(crate) inspect: Inspect,
    /// What the kernel says that checks the keys.
    pub(crate) isolation: Isolation,
    pub(crate) priority: u8,
    /// What the domains of the stress run are made of.
    pub(crate) nursery: stress::Nursery,
}

impl Tools {
    /// What this domain has of what a scenario could leave behind. Regions and keys are held by capabilities.
    pub(crate) fn footprint(&self) -> Result<Footprint, Error> {
        for domain in self.inspect.domains() {
            let domain = domain?;
            if domain.name == SERVER && domain.state == DomainState::Running {
                return Ok(Footprint { threads: domain.threads, capabilities: domain.capabilities });
            }
        }
        Err(Error::NotFound)
    }

    /// How many CPUs run.
    pub(crate) fn cpus(&self) -> Result<u32, Error> {
        Ok(self.inspect.system()?.cpus)
    }

    /// The key of this domain's own memory, from the mapping of a variable on the stack.
    pub(crate) fn own_key(&self) -> Result<Pkey, Error> {
        let variable = 0_u64;
        Ok(self.leaf((&raw const variable).expose_provenance() as u64)?.key())
    }

    /// The word of a thread of this domain that has opened nothing.
    pub(crate) fn base_word(&self) -> Result<Pkrs, Error> {
        Ok(Pkrs::DEFAULT.with(self.own_key()?, Rights::ReadWrite))
    }

    /// A page of the kernel's own writable data.
    pub(crate) fn kernel_page(&self) -> Run<u64> {
        let pages = (0..KERNEL_PAGES).map(|page| KERNEL_BASE + page * PAGE);
        let is_data = |address: &u64| {
            self.leaf(*address).is_ok_and(|leaf| leaf.key() == Pkey::KERNEL && leaf.entry & WRITABLE != 0)
        };
        pages
            .into_iter()
            .find(is_data)
            .ok_or_else(|| Stop::failed(format_args!("the kernel has no data pages")))
    }
}

/// See [`Tools::footprint`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footprint {
    threads: u32,
    capabilities: u32,
}

/// A region of one page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) region: Owned<Region>,
    pub(crate) raw: Unguarded,
    pub(crate) key: Pkey,
}

impl Page {
    /// Makes it, under the key that the kernel chooses or under `key`.
    pub(crate) fn new(key: Option<Key>) -> Result<Self, Error> {
        let region = Region::create(PAGE, key)?;
        let raw = region.unguarded()?;
        let key = Pkey::new(region.info()?.key).ok_or(Error::Malformed)?;
        Ok(Self { region, raw, key })
    }

    pub(crate) fn address(&self) -> u64 {
        self.raw.address()
    }

    /// Writes the word at an offset, under a guard of the calling thread.
    pub(crate) fn put(&self, offset: u64, value: u64) -> Result<(), Error> {
        self.region.open_write()?.write_u64(offset, value)
    }

    /// Reads the word at an offset, under a guard of the calling thread.
    pub(crate) fn get(&self, offset: u64) -> Result<u64, Error> {
        self.region.open_read()?.read_u64(offset)
    }
}

/// A page under a key of the pool, which nothing else is under.
#[derive(Debug)]
pub(crate) struct Target {
    page: Page,
    /// Keeps the key out of the pool.
    held: Owned<Key>,
}

impl Target {
    /// Takes a key out of the pool and makes a page under it.
    pub(crate) fn new(tools: &Tools) -> Result<Self, Error> {
        let (held, number) = tools.keys.allocate()?;
        let page = Page::new(Some(*held))?;
        if page.key.index() == number { Ok(Self { page, held }) } else { Err(Error::Malformed) }
    }

    pub(crate) fn capability(&self) -> Key {
        *self.held
    }
}

impl Deref for Target {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// Binds the calling thread to a CPU while it lives.
#[derive(Debug)]
pub(crate) struct Bound(Owned<Thread>);

impl Bound {
    pub(crate) fn to(cpu: u32) -> Result<Self, Error> {
        let thread = Thread::current()?;
        thread.bind(Some(cpu))?;
        Ok(Self(thread))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Only a CPU that does not exist can be refused.
        let _ = self.0.bind(None);
    }
}
