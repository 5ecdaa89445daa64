//! S2, S3, P5: the access matrix, by threads that open what the row says, and by probes of the hardware.

use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::Region;
use libpks::rt::text::cut;

use crate::bench::{Probed, Target, Tools};
use crate::subject::{Attempt, Came, check_key_fault};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// A row: what the key allows, what is done, whether it must fault (M1 to M6).
#[derive(Clone, Copy, Debug)]
pub(in crate::scenarios) struct Row {
    pub(in crate::scenarios) rights: Rights,
    pub(in crate::scenarios) access: Access,
    pub(in crate::scenarios) faults: bool,
}

const fn row(rights: Rights, access: Access, faults: bool) -> Row {
    Row { rights, access, faults }
}

/// What the SDM says (vol. 3A, 4.6.2), written out rather than computed.
pub(in crate::scenarios) const MATRIX: [Row; 6] = [
    row(Rights::NoAccess, Access::Write, true),
    row(Rights::NoAccess, Access::Read, true),
    row(Rights::ReadWrite, Access::Write, false),
    row(Rights::ReadWrite, Access::Read, false),
    row(Rights::ReadOnly, Access::Write, true),
    row(Rights::ReadOnly, Access::Read, false),
];

/// What a word must be before and after a row; written anew for each.
const BEFORE: u64 = 0x4445_4144_4245_4546;
const WRITTEN: u64 = 0x5752_4954_5445_4e21;

/// S2: one key.
pub(in crate::scenarios) fn single(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    check_leaf(tools, checks, &target)?;
    for row in MATRIX {
        by_thread(tools, checks, &target, row, &[])?;
        by_probe(tools, checks, &target, row, Pkrs::DEFAULT)?;
    }
    Ok(cut(format_args!("key {}: six rows by threads and six by probes", target.key)))
}

/// S3: every key that is to be had, all others closed and all others open; and the kernel's own.
pub(in crate::scenarios) fn all_keys(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let targets = all_targets(tools)?;
    let free = tools.inspect.system()?.keys_free;
    checks.same(format_args!("keys left in an exhausted pool"), free, 0)?;
    checks.that(targets.len() >= 2, format_args!("only {} keys to be had", targets.len()))?;
    for target in &targets {
        check_leaf(tools, checks, target)?;
        let others: Vec<Region> =
            targets.iter().filter(|other| other.key != target.key).map(|other| *other.region).collect();
        for row in MATRIX {
            by_thread(tools, checks, target, row, &[])?;
            by_thread(tools, checks, target, row, &others)?;
            by_probe(tools, checks, target, row, Pkrs::DEFAULT)?;
            by_probe(tools, checks, target, row, Pkrs::from_raw(0))?;
        }
    }
    kernel_key(tools, checks)?;
    let list: heapless::Vec<u8, 16> = targets.iter().map(|target| target.key.index()).collect();
    Ok(cut(format_args!("keys {list:?} and the kernel's, all others closed, then open")))
}

/// P5: error codes and addresses, at both ends of a page.
pub(in crate::scenarios) fn error_codes(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    for offset in [0, PAGE - 8] {
        for access in [Access::Read, Access::Write] {
            let came = attempt(&target, offset, access, &[]).make(tools)?;
            let Came::Fault(report) = came else {
                return Err(Stop::failed(format_args!("{access} at offset {offset:#x} did not fault")));
            };
            let address = target.address() + offset;
            check_key_fault(checks, &report, address, access, target.key, tools.base_word()?)?;
        }
    }
    Ok(cut(format_args!("0x21 and 0x23 with exact addresses")))
}

/// Takes keys until there are none.
pub(in crate::scenarios) fn all_targets(tools: &Tools) -> Run<Vec<Target>> {
    let mut targets = Vec::new();
    loop {
        match Target::new(tools) {
            Ok(target) => targets.push(target),
            Err(Error::KeysExhausted) => return Ok(targets),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The page's key in the page table is the one that the pool said.
fn check_leaf(tools: &Tools, checks: &Checks, target: &Target) -> Run {
    let leaf = tools.leaf(target.address())?;
    checks.same(format_args!("key in the page table"), leaf.key(), target.key)?;
    checks.that(!leaf.user, format_args!("the page is a user page: {:#x}", leaf.entry))
}

fn attempt(target: &Target, offset: u64, access: Access, opened: &[(Region, Rights)]) -> Attempt {
    let opened = opened.iter().copied().collect();
    Attempt { raw: target.raw, offset, access, value: WRITTEN, opened, cpu: None }
}

/// A row by a thread: it opens `others` for writing, the target as the row says, and accesses it.
pub(in crate::scenarios) fn by_thread(
    tools: &Tools,
    checks: &Checks,
    target: &Target,
    row: Row,
    others: &[Region],
) -> Run {
    target.put(0, BEFORE)?;
    let mut opened: heapless::Vec<_, 16> = others.iter().map(|region| (*region, Rights::ReadWrite)).collect();
    let _ = opened.push((*target.region, row.rights));
    let came = attempt(target, 0, row.access, &opened).make(tools)?;
    let Row { rights, access, faults } = row;
    let what = format_args!("key {} {rights}, {} others open, {access}", target.key, others.len());
    match came {
        Came::Through(value) => {
            checks.that(!faults, format_args!("{what}: did not fault"))?;
            let expected = if access == Access::Read { BEFORE } else { WRITTEN };
            checks.same(format_args!("{what}: value"), value, expected)?;
        }
        Came::Fault(report) => {
            checks.that(faults, format_args!("{what}: faulted"))?;
            let mut word = tools.base_word()?.with(target.key, rights);
            for other in others {
                let key = Pkey::new(other.info()?.key).ok_or(Error::Malformed)?;
                word = word.with(key, Rights::ReadWrite);
            }
            check_key_fault(checks, &report, target.address(), access, target.key, word)?;
        }
    }
    check_memory(checks, target, row, what)
}

/// A row by a probe under the word `rest` with the target's key as the row says.
fn by_probe(tools: &Tools, checks: &Checks, target: &Target, row: Row, rest: Pkrs) -> Run {
    target.put(0, BEFORE)?;
    let word = rest.with(target.key, row.rights);
    let probed = tools.probe(target.address(), word, row.access, WRITTEN)?;
    let what = format_args!("probe under {:#010x}, {}", word.raw(), row.access);
    checks.same(what, probed, expected(row, target.address()))?;
    check_memory(checks, target, row, what)
}

fn expected(row: Row, address: u64) -> Probed {
    match (row.faults, row.access) {
        (true, Access::Read) => Probed::Faulted { code: 0x21, cr2: address },
        (true, Access::Write) => Probed::Faulted { code: 0x23, cr2: address },
        (false, Access::Read) => Probed::Done(BEFORE),
        (false, Access::Write) => Probed::Done(0),
    }
}

/// A write that was allowed is in memory; nothing else is.
fn check_memory(checks: &Checks, target: &Target, row: Row, what: core::fmt::Arguments<'_>) -> Run {
    let expected = if row.access == Access::Write && !row.faults { WRITTEN } else { BEFORE };
    checks.same(format_args!("{what}: memory"), target.get(0)?, expected)
}

/// The kernel's own key. A write that is allowed is left out: it would change the kernel's data.
fn kernel_key(tools: &Tools, checks: &Checks) -> Run {
    let address = tools.kernel_page()?;
    for row in MATRIX.into_iter().filter(|row| row.access == Access::Read || row.faults) {
        for rest in [Pkrs::DEFAULT, Pkrs::from_raw(0)] {
            let word = rest.with(Pkey::KERNEL, row.rights);
            let probed = tools.probe(address, word, row.access, WRITTEN)?;
            let same = match probed {
                // What the kernel's data holds is nobody's business here.
                Probed::Done(_) => !row.faults,
                Probed::Faulted { .. } => row.faults && probed == expected(row, address),
            };
            let (word, access) = (word.raw(), row.access);
            checks.that(same, format_args!("kernel's key, {access} under {word:#010x}: {probed:x?}"))?;
        }
    }
    Ok(())
}
