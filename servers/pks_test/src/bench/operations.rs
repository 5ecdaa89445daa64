//! What the SelfTest capability gives, typed.

use libpks::abi::Error;
use libpks::abi::message::WORDS;
use libpks::abi::selftest::{LEAF_EXECUTABLE, SelfTestOp};
use libpks::pkey::{Access, Pkey, Pkrs, pte_key};

use super::{Tools, keys_on};

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
    /// Whether the bit of CR4 is set that switches the keys on.
    pub(crate) keys_on: bool,
}

/// A page-table leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) entry: u64,
    /// 1 4 KiB, 2 2 MiB, 3 1 GiB.
    pub(crate) level: u64,
    /// Whether the page is out of the keys' reach.
    pub(crate) unkeyed: bool,
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

/// The leaf that an access is to go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeafShape {
    /// 1 4 KiB, 2 2 MiB, 3 1 GiB.
    pub(crate) level: u8,
    /// Executable and read-only, or the other way round.
    pub(crate) executable: bool,
}

/// What is done through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum LeafAccess {
    Read = 0,
    Write = 1,
    Fetch = 2,
}

/// What came of an access through a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeafProbed {
    pub(crate) probed: Probed,
    pub(crate) leaf: Leaf,
    /// What memory holds afterwards.
    pub(crate) memory: u64,
    pub(crate) address: u64,
}

/// What the innermost of nested traps does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Innermost {
    /// It returns.
    Returns = 0,
    /// It takes an NMI first.
    TakesNmi = 1,
}

/// What a trap among nested traps saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Nest {
    /// PKRS: in the event's handler before, in this trap's before and after those inside it, in the event's after.
    pub(crate) words: [u64; 4],
    /// DEPTH in this trap's handler.
    pub(crate) depth: u64,
    /// PKRS in the NMI's handler, 0 without one.
    pub(crate) nmi: u64,
    /// How many traps there were.
    pub(crate) reached: u64,
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
        let keys_on = keys_on(self.isolation, cr4);
        Ok(Words { interrupted, kernel, cr4, keys_on })
    }

    /// The same with the keys' bit of CR4 clear.
    pub(crate) fn probe_keys_off(
        &self,
        address: u64,
        word: Pkrs,
        access: Access,
        value: u64,
    ) -> Result<Probed, Error> {
        self.probe_by(SelfTestOp::ProbeWithoutKeys, address, word, access, value)
    }

    /// One access through a leaf that is mapped for it alone.
    pub(crate) fn leaf_access(
        &self,
        shape: LeafShape,
        key: Pkey,
        word: Pkrs,
        access: LeafAccess,
        value: u64,
    ) -> Result<LeafProbed, Error> {
        let executable = if shape.executable { LEAF_EXECUTABLE } else { 0 };
        let shape = u64::from(shape.level) | executable;
        let arguments = [shape, u64::from(key.index()), u64::from(word.raw()), access as u64, value];
        let [faulted, code, cr2, read, entry, level, memory, address] =
            self.ask(SelfTestOp::LeafAccess, arguments)?;
        let probed = match faulted {
            0 => Probed::Done(if access == LeafAccess::Write { 0 } else { read }),
            1 => Probed::Faulted { code, cr2 },
            _ => return Err(Error::Malformed),
        };
        let leaf = Leaf { entry, level, unkeyed: false };
        Ok(LeafProbed { probed, leaf, memory, address })
    }

    /// Gives the page at an address another key in the page table alone, until the value is dropped.
    pub(crate) fn tamper_with_leaf(&self, address: u64, key: Pkey) -> Result<TamperedLeaf, Error> {
        let arguments = [address, u64::from(key.index()), 0, 0, 0];
        let [old, ..] = self.ask(SelfTestOp::SetLeafKey, arguments)?;
        Ok(TamperedLeaf { tools: *self, address, old })
    }

    /// Gives the calling thread another word than the books derive, until it opens or closes something.
    pub(crate) fn tamper_with_word(&self, word: Pkrs) -> Result<(), Error> {
        self.ask(SelfTestOp::SetWord, [u64::from(word.raw()), 0, 0, 0, 0]).map(drop)
    }

    /// The leaf that maps an address.
    pub(crate) fn leaf(&self, address: u64) -> Result<Leaf, Error> {
        let [entry, level, unkeyed, ..] = self.ask(SelfTestOp::WalkPageTable, [address, 0, 0, 0, 0])?;
        Ok(Leaf { entry, level, unkeyed: unkeyed != 0 })
    }

    /// What a CPU has counted.
    pub(crate) fn counters(&self, cpu: u32) -> Result<Counters, Error> {
        let [switches, ..] = self.ask(SelfTestOp::Counters, [u64::from(cpu), 0, 0, 0, 0])?;
        Ok(Counters { switches })
    }

    /// Breakpoints inside one another in the kernel, as one of them saw it (0 the outermost).
    pub(crate) fn nested_trap(&self, levels: u64, innermost: Innermost, asked: u64) -> Result<Nest, Error> {
        let [before, level_before, level_after, after, depth, nmi, reached, _] =
            self.ask(SelfTestOp::NestedTrap, [levels, innermost as u64, asked, 0, 0])?;
        Ok(Nest { words: [before, level_before, level_after, after], depth, nmi, reached })
    }

    /// PKRS in the NMI handler of a CPU and after it.
    pub(crate) fn nmi(&self, cpu: u32) -> Result<[u64; 2], Error> {
        let [inside, after, ..] = self.ask(SelfTestOp::Nmi, [u64::from(cpu), 0, 0, 0, 0])?;
        Ok([inside, after])
    }

    /// Writes PKRS raw: whether that faulted, and what was read back.
    pub(crate) fn write_raw(&self, value: u64) -> Result<(bool, u64), Error> {
        let [faulted, read, ..] =
            self.ask(SelfTestOp::WritePkrsRaw, [value & 0xffff_ffff, value >> 32, 0, 0, 0])?;
        Ok((faulted != 0, read))
    }

    /// Pages whose mapping was audited, and rules that were broken.
    pub(crate) fn audit(&self) -> Result<(u64, u64), Error> {
        self.self_test.audit()
    }

    /// A page with a key that is out of the keys' reach, mapped while the value lives.
    pub(crate) fn unkeyed_page(&self, key: Pkey) -> Result<UnkeyedPage, Error> {
        let [address, ..] = self.ask(SelfTestOp::UnkeyedPage, [1, u64::from(key.index()), 0, 0, 0])?;
        Ok(UnkeyedPage { tools: *self, address, key })
    }
}

/// See [`Tools::unkeyed_page`].
#[derive(Debug)]
pub(crate) struct UnkeyedPage {
    tools: Tools,
    key: Pkey,
    pub(crate) address: u64,
}

impl Drop for UnkeyedPage {
    fn drop(&mut self) {
        // If it cannot be unmapped the next scenario that asks for it says so.
        let _ = self.tools.ask(SelfTestOp::UnkeyedPage, [0, u64::from(self.key.index()), 0, 0, 0]);
    }
}

/// See [`Tools::tamper_with_leaf`].
#[derive(Debug)]
pub(crate) struct TamperedLeaf {
    tools: Tools,
    address: u64,
    old: u64,
}

impl Drop for TamperedLeaf {
    fn drop(&mut self) {
        // If the page has gone there is nothing to put back.
        let _ = self.tools.ask(SelfTestOp::SetLeafKey, [self.address, self.old, 0, 0, 0]);
    }
}
