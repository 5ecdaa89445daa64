//! What the SelfTest capability gives, typed, and what a scenario is made of.

use libpks::abi::Error;
use libpks::abi::layout::{KERNEL_BASE, PAGE};
use libpks::abi::message::WORDS;
use libpks::abi::selftest::SelfTestOp;
use libpks::pkey::{Access, Pkey, Pkrs, Rights, pte_key};
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{Inspect, Key, KeyPool, Owned, Region, SelfTest, Thread};

use libpks::proto::pks_test::checks::{Run, Stop};

/// CR4.PKS (Intel SDM vol. 3A, section 2.5).
pub(crate) const CR4_PKS: u64 = 1 << 24;
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
    pub(crate) priority: u8,
}

/// What came of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probed {
    /// The access was done; the value read, 0 for a write.
    Done(u64),
    /// It faulted, with this error code and this CR2.
    Faulted { code: u64, cr2: u64 },
}

/// The words of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Words {
    /// Of the thread that asks, if it is bound to that CPU.
    pub(crate) interrupted: Pkrs,
    /// Live in the kernel.
    pub(crate) kernel: u64,
    /// CR4.
    pub(crate) cr4: u64,
}

/// A page-table leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) entry: u64,
    /// Whether U/S is set at every level.
    pub(crate) user: bool,
}

impl Leaf {
    pub(crate) fn key(&self) -> Pkey {
        pte_key(self.entry)
    }
}

/// What a CPU has counted since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counters {
    pub(crate) switches: u64,
}

impl Tools {
    fn ask(&self, operation: SelfTestOp, arguments: [u64; 5]) -> Result<[u64; WORDS], Error> {
        self.self_test.run(operation, arguments)
    }

    /// One access under a word of its own, in the kernel's stub.
    pub(crate) fn probe(
        &self,
        address: u64,
        word: Pkrs,
        access: Access,
        value: u64,
    ) -> Result<Probed, Error> {
        self.probe_by(SelfTestOp::Probe, address, word, access, value)
    }

    /// The same with CR0.WP clear.
    pub(crate) fn probe_wp_off(
        &self,
        address: u64,
        word: Pkrs,
        access: Access,
        value: u64,
    ) -> Result<Probed, Error> {
        self.probe_by(SelfTestOp::ProbeWithoutWriteProtect, address, word, access, value)
    }

    fn probe_by(
        &self,
        operation: SelfTestOp,
        address: u64,
        word: Pkrs,
        access: Access,
        value: u64,
    ) -> Result<Probed, Error> {
        let write = u64::from(access == Access::Write);
        let [faulted, code, cr2, read, ..] =
            self.ask(operation, [address, u64::from(word.raw()), write, value, 0])?;
        match faulted {
            // A write reads nothing.
            0 => Ok(Probed::Done(if access == Access::Write { 0 } else { read })),
            1 => Ok(Probed::Faulted { code, cr2 }),
            _ => Err(Error::Malformed),
        }
    }

    /// The words of a CPU. A word above 32 bits is no word.
    pub(crate) fn words(&self, cpu: u32) -> Result<Words, Error> {
        let [interrupted, kernel, cr4, ..] = self.ask(SelfTestOp::ReadPkrs, [u64::from(cpu), 0, 0, 0, 0])?;
        let interrupted = Pkrs::from_raw(u32::try_from(interrupted).map_err(|_| Error::Malformed)?);
        Ok(Words { interrupted, kernel, cr4 })
    }

    /// The leaf that maps an address.
    pub(crate) fn leaf(&self, address: u64) -> Result<Leaf, Error> {
        let [entry, _, user, ..] = self.ask(SelfTestOp::WalkPageTable, [address, 0, 0, 0, 0])?;
        Ok(Leaf { entry, user: user != 0 })
    }

    /// What a CPU has counted.
    pub(crate) fn counters(&self, cpu: u32) -> Result<Counters, Error> {
        let [switches, ..] = self.ask(SelfTestOp::Counters, [u64::from(cpu), 0, 0, 0, 0])?;
        Ok(Counters { switches })
    }

    /// PKRS in the outer handler before, in the inner, and in the outer handler after.
    pub(crate) fn nested_trap(&self) -> Result<[u64; 3], Error> {
        let [before, inner, after, ..] = self.ask(SelfTestOp::NestedTrap, [0; 5])?;
        Ok([before, inner, after])
    }

    /// PKRS in the NMI handler of a CPU and after it.
    pub(crate) fn nmi(&self, cpu: u32) -> Result<[u64; 2], Error> {
        let [inside, after, ..] = self.ask(SelfTestOp::Nmi, [u64::from(cpu), 0, 0, 0, 0])?;
        Ok([inside, after])
    }

    /// Writes IA32_PKRS raw: whether that faulted, and what was read back.
    pub(crate) fn write_raw(&self, value: u64) -> Result<(bool, u64), Error> {
        let [faulted, read, ..] =
            self.ask(SelfTestOp::WritePkrsRaw, [value & 0xffff_ffff, value >> 32, 0, 0, 0])?;
        Ok((faulted != 0, read))
    }

    /// Pages whose mapping was audited, and rules that were broken.
    pub(crate) fn audit(&self) -> Result<(u64, u64), Error> {
        let [pages, broken, ..] = self.ask(SelfTestOp::Audit, [0; 5])?;
        Ok((pages, broken))
    }

    /// A user page under a key, mapped while the value lives.
    pub(crate) fn user_page(&self, key: Pkey) -> Result<UserPage, Error> {
        let [address, ..] = self.ask(SelfTestOp::UserPage, [1, u64::from(key.index()), 0, 0, 0])?;
        Ok(UserPage { tools: *self, address, key })
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

/// See [`Tools::user_page`].
#[derive(Debug)]
pub(crate) struct UserPage {
    tools: Tools,
    key: Pkey,
    pub(crate) address: u64,
}

impl Drop for UserPage {
    fn drop(&mut self) {
        // If it cannot be unmapped the next scenario that asks for it says so.
        let _ = self.tools.ask(SelfTestOp::UserPage, [0, u64::from(self.key.index()), 0, 0, 0]);
    }
}

/// A page under a key of its own.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) region: Owned<Region>,
    pub(crate) raw: Unguarded,
    pub(crate) key: Pkey,
    /// Keeps the key out of the pool.
    held: Owned<Key>,
}

impl Target {
    /// Takes a key out of the pool and makes a page under it.
    pub(crate) fn new(tools: &Tools) -> Result<Self, Error> {
        let (held, number) = tools.keys.allocate()?;
        let region = Region::create(PAGE, Some(*held))?;
        let raw = region.unguarded()?;
        Ok(Self { region, raw, key: Pkey::new(number).ok_or(Error::Malformed)?, held })
    }

    pub(crate) fn address(&self) -> u64 {
        self.raw.address()
    }

    pub(crate) fn capability(&self) -> Key {
        *self.held
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
