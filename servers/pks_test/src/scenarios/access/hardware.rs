//! K1 to K7 and P15 to P17: the hardware's rules, by probes of two pages under the same key: one that the keys
//! cover, and one that they do not. The latter is a user page with PKS, a supervisor page with PKU.

use libpks::abi::Error;
use libpks::abi::inspect::Isolation;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use super::matrix::{MATRIX, Row, expected};
use crate::bench::{Bound, Probed, Target, Tools, UnkeyedPage};
use libpks::proto::pks_test::checks::{Checks, Run};

/// What is in both pages before a row, and what is written to them.
const BEFORE: u64 = 0x4b00_0000_0000_0001;
const WRITTEN: u64 = 0x4b00_0000_0000_0002;

/// The two pages.
struct Rig<'a> {
    tools: &'a Tools,
    checks: &'a Checks,
    keyed: Target,
    unkeyed: UnkeyedPage,
}

impl<'a> Rig<'a> {
    /// Makes both pages, and checks in the page table that they are what they must be.
    fn new(tools: &'a Tools, checks: &'a Checks) -> Run<Self> {
        let keyed = Target::new(tools)?;
        let unkeyed = tools.unkeyed_page(keyed.key)?;
        for (address, unkeyed) in [(keyed.address(), false), (unkeyed.address, true)] {
            let leaf = tools.leaf(address)?;
            let seen = (leaf.unkeyed, leaf.key());
            checks.same(
                format_args!("out of the keys' reach or not, and key, of {address:#x}"),
                seen,
                (unkeyed, keyed.key),
            )?;
        }
        let rig = Self { tools, checks, keyed, unkeyed };
        for address in [rig.keyed.address(), rig.unkeyed.address] {
            checks.same(
                format_args!("write with the key open"),
                tools.probe(address, rig.word(Rights::ReadWrite), Access::Write, BEFORE)?,
                Probed::Done(0),
            )?;
            rig.holds(address, BEFORE)?;
        }
        Ok(rig)
    }

    /// Key 0 and the key of both pages as said, all others closed.
    fn word(&self, rights: Rights) -> Pkrs {
        Pkrs::DEFAULT.with(self.keyed.key, rights)
    }

    /// A page holds a value, read with its key open.
    fn holds(&self, address: u64, value: u64) -> Run {
        let read = self.tools.probe(address, self.word(Rights::ReadWrite), Access::Read, 0)?;
        self.checks.same(format_args!("value at {address:#x}"), read, Probed::Done(value))
    }

    /// A write: it must be done, or fault with code 0x23 and leave the page as it was.
    fn write(&self, address: u64, rights: Rights, write_protect: bool, faults: bool) -> Run {
        let word = self.word(rights);
        let probed = match write_protect {
            true => self.tools.probe(address, word, Access::Write, WRITTEN)?,
            false => self.tools.probe_wp_off(address, word, Access::Write, WRITTEN)?,
        };
        let expected = if faults { Probed::Faulted { code: 0x23, cr2: address } } else { Probed::Done(0) };
        self.checks.same(
            format_args!("write at {address:#x}, {rights}, CR0.WP {write_protect}"),
            probed,
            expected,
        )?;
        self.holds(address, if faults { BEFORE } else { WRITTEN })
    }

    /// A read: the value, or a fault with code 0x21.
    fn read(&self, address: u64, rights: Rights, faults: bool) -> Run {
        let probed = self.tools.probe(address, self.word(rights), Access::Read, 0)?;
        let expected =
            if faults { Probed::Faulted { code: 0x21, cr2: address } } else { Probed::Done(BEFORE) };
        self.checks.same(format_args!("read at {address:#x}, {rights}"), probed, expected)
    }
}

pub(in crate::scenarios) fn k1(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.keyed.address(), Rights::NoAccess, true, true)?;
    rig.write(rig.keyed.address(), Rights::ReadWrite, true, false)?;
    Ok(cut(format_args!("one fault, then the value was stored")))
}

pub(in crate::scenarios) fn k2(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.keyed.address(), Rights::NoAccess, false, true)?;
    Ok(cut(format_args!("faulted, nothing was stored")))
}

pub(in crate::scenarios) fn k3(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.keyed.address(), Rights::ReadOnly, true, true)?;
    Ok(cut(format_args!("faulted, nothing was stored")))
}

pub(in crate::scenarios) fn k4(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.keyed.address(), Rights::ReadOnly, false, false)?;
    Ok(cut(format_args!("no fault, the value was stored")))
}

pub(in crate::scenarios) fn k5(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.unkeyed.address, Rights::ReadOnly, false, false)?;
    Ok(cut(format_args!("no fault, the value was stored")))
}

/// With the same word the supervisor page must fault, so that it is the unkeyed page that makes the difference.
pub(in crate::scenarios) fn k6(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.write(rig.unkeyed.address, Rights::ReadOnly, true, false)?;
    rig.write(rig.keyed.address(), Rights::ReadOnly, true, true)?;
    Ok(cut(format_args!("unkeyed page written, keyed page faulted")))
}

pub(in crate::scenarios) fn k7(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    rig.read(rig.unkeyed.address, Rights::NoAccess, false)?;
    rig.read(rig.keyed.address(), Rights::NoAccess, true)?;
    rig.read(rig.keyed.address(), Rights::ReadOnly, false)?;
    Ok(cut(format_args!("unkeyed page read, keyed page faulted, and not with WD")))
}

/// A row on a page that holds [`BEFORE`].
fn row_on(rig: &Rig<'_>, address: u64, row: Row, write_protect: bool) -> Run {
    let open = rig.word(Rights::ReadWrite);
    let put = rig.tools.probe(address, open, Access::Write, BEFORE)?;
    rig.checks.same(format_args!("write with the key open"), put, Probed::Done(0))?;
    let (word, Row { rights, access, faults }) = (rig.word(row.rights), row);
    let probed = match write_protect {
        true => rig.tools.probe(address, word, access, WRITTEN)?,
        false => rig.tools.probe_wp_off(address, word, access, WRITTEN)?,
    };
    let what = format_args!("{access} at {address:#x}, {rights}, CR0.WP {write_protect}");
    rig.checks.same(what, probed, expected(row, address, BEFORE))?;
    rig.holds(address, if access == Access::Write && !faults { WRITTEN } else { BEFORE })
}

/// The matrix with CR0.WP clear: WD counts for nothing (SDM vol. 3A, 4.6.2).
const WITHOUT_WRITE_PROTECT: [Row; 6] = {
    let mut rows = MATRIX;
    assert!(matches!((rows[4].rights, rows[4].access), (Rights::ReadOnly, Access::Write)));
    rows[4].faults = false;
    rows
};

/// P15: for a page that keys do not cover PKRS is not asked, whatever it says of the page's key.
pub(in crate::scenarios) fn user_page(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    for write_protect in [true, false] {
        let rows = if write_protect { MATRIX } else { WITHOUT_WRITE_PROTECT };
        for row in rows {
            row_on(&rig, rig.unkeyed.address, Row { faults: false, ..row }, write_protect)?;
            row_on(&rig, rig.keyed.address(), row, write_protect)?;
        }
    }
    Ok(cut(format_args!("no fault at the unkeyed page, the matrix at the keyed page under the same key")))
}

/// P16: with CR0.WP clear WD forbids nothing, AD does; with WP set again it does.
pub(in crate::scenarios) fn write_protect_off(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let rig = Rig::new(tools, checks)?;
    let page = rig.keyed.address();
    for (without, with) in WITHOUT_WRITE_PROTECT.into_iter().zip(MATRIX) {
        row_on(&rig, page, without, false)?;
        row_on(&rig, page, with, true)?;
    }
    Ok(cut(format_args!("six rows with CR0.WP clear, each followed by its row with CR0.WP set")))
}

/// P17: bits 63:32 of IA32_PKRS are reserved (SDM vol. 4, table 2-2).
pub(in crate::scenarios) fn reserved_bits(tools: &Tools, checks: &Checks) -> Run<Seen> {
    // Keys 0 and 1 stay open: the kernel runs on them while it tries.
    let good = u64::from(Pkrs::KERNEL.raw()) & 0xffff_ffff;
    if tools.isolation == Isolation::Views {
        let _bound = Bound::to(0)?;
        for value in [good].into_iter().chain((32..64).map(|bit| good | 1 << bit)) {
            let refused = tools.write_raw(value);
            checks.same(format_args!("a write of {value:#x}"), refused, Err(Error::KeysUnsupported))?;
            checks.same(format_args!("the kernel's word after {value:#x}"), tools.words(0)?.kernel, good)?;
        }
        return Ok(cut(format_args!("there is no register, and no write of one")));
    }
    for value in [good, good & 0x0fff_ffff, good | 0xaaaa_aaa0] {
        checks.same(format_args!("WRMSR of {value:#x}"), tools.write_raw(value)?, (false, value))?;
    }
    for bit in 32..64 {
        let (faulted, read) = tools.write_raw(good | 1 << bit)?;
        checks.that(faulted, format_args!("WRMSR with bit {bit} did not fault, and reads back {read:#x}"))?;
        checks.that(read >> 32 == 0, format_args!("bit {bit} stuck: {read:#x}"))?;
    }
    Ok(cut(format_args!("three words taken, every one with a bit above 31 refused")))
}
