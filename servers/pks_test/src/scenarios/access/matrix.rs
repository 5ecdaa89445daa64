//! S2, S3, P2, P3, P5: the access matrix, by threads that open what the row says, and by probes of the hardware.

use alloc::vec::Vec;

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use crate::bench::{Page, Probed, Target, Tools};
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
        by_thread(tools, checks, &target, row, Setting::default())?;
        by_probe(tools, checks, &target, row, Pkrs::DEFAULT)?;
    }
    Ok(cut(format_args!("key {}: six rows by threads and six by probes", target.key)))
}

/// P2: one key, on every CPU.
pub(in crate::scenarios) fn every_cpu(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    check_leaf(tools, checks, &target)?;
    let cpus = tools.cpus()?;
    for cpu in 0..cpus {
        for row in MATRIX {
            by_thread(tools, checks, &target, row, Setting { cpu: Some(cpu), ..Setting::default() })?;
        }
    }
    Ok(cut(format_args!("key {}: six rows on each of {cpus} CPUs", target.key)))
}

/// S3: every key that is to be had, all others closed and all others open; and the kernel's own.
pub(in crate::scenarios) fn all_keys(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let targets = exhausted_pool(tools, checks)?;
    for target in &targets {
        check_leaf(tools, checks, target)?;
        let others = others(&targets, target, |_| Rights::ReadWrite);
        for row in MATRIX {
            by_thread(tools, checks, target, row, Setting::default())?;
            by_thread(tools, checks, target, row, Setting { others: &others, cpu: None })?;
            by_probe(tools, checks, target, row, Pkrs::DEFAULT)?;
            by_probe(tools, checks, target, row, Pkrs::from_raw(0))?;
        }
    }
    for rest in [Pkrs::DEFAULT, Pkrs::from_raw(0)] {
        kernel_key(tools, checks, rest)?;
    }
    let list: heapless::Vec<u8, 16> = targets.iter().map(|target| target.key.index()).collect();
    Ok(cut(format_args!("keys {list:?} and the kernel's, all others closed, then open")))
}

/// P3: cross-talk. Each key against each other one, which has what the row's key has not, the rest being on the side
/// that would hide the row; then with neighbours of all three kinds at once.
pub(in crate::scenarios) fn cross_talk(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let targets = exhausted_pool(tools, checks)?;
    let kinds = [Rights::ReadWrite, Rights::ReadOnly, Rights::NoAccess];
    for target in &targets {
        for row in MATRIX {
            let rest = Pkrs::from_raw(if row.faults { 0 } else { Pkrs::DEFAULT.raw() });
            for other in targets.iter().filter(|other| other.key != target.key) {
                for rights in kinds.into_iter().filter(|rights| *rights != row.rights) {
                    by_probe(tools, checks, target, row, rest.with(other.key, rights))?;
                }
            }
            let mixed = others(&targets, target, |n| kinds[n % kinds.len()]);
            by_thread(tools, checks, target, row, Setting { others: &mixed, cpu: None })?;
        }
        for rights in kinds {
            kernel_key(tools, checks, Pkrs::DEFAULT.with(target.key, rights))?;
        }
    }
    let keys = targets.len();
    Ok(cut(format_args!("{keys} keys, each against each other one, and mixed neighbours")))
}

/// All keys of the pool, which then has none.
fn exhausted_pool(tools: &Tools, checks: &Checks) -> Run<Vec<Target>> {
    let targets = all_targets(tools)?;
    let free = tools.inspect.system()?.keys_free;
    checks.same(format_args!("keys left in an exhausted pool"), free, 0)?;
    checks.that(targets.len() >= 2, format_args!("only {} keys to be had", targets.len()))?;
    Ok(targets)
}

/// All targets but one, with rights by their place.
fn others<'a>(
    targets: &'a [Target],
    but: &Target,
    rights_fn: impl Fn(usize) -> Rights,
) -> Vec<(&'a Page, Rights)> {
    let rest = targets.iter().filter(|other| other.key != but.key);
    rest.enumerate().map(|(n, other)| (&**other, rights_fn(n))).collect()
}

/// P5: error codes and addresses, at both ends of a page.
pub(in crate::scenarios) fn error_codes(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    for offset in [0, PAGE - 8] {
        for access in [Access::Read, Access::Write] {
            let came = attempt(&target, offset, access, Setting::default()).make(tools)?;
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
pub(in crate::scenarios) fn check_leaf(tools: &Tools, checks: &Checks, target: &Page) -> Run {
    let leaf = tools.leaf(target.address())?;
    checks.same(format_args!("key in the page table"), leaf.key(), target.key)?;
    checks.that(!leaf.unkeyed, format_args!("the page is out of the keys' reach: {:#x}", leaf.entry))
}

/// What a row by a thread does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::scenarios) struct Setting<'a> {
    /// What the thread has open beside the row's page.
    pub(in crate::scenarios) others: &'a [(&'a Page, Rights)],
    /// The CPU to which it is bound.
    pub(in crate::scenarios) cpu: Option<u32>,
}

fn attempt(target: &Page, offset: u64, access: Access, setting: Setting<'_>) -> Attempt {
    let opened = setting.others.iter().map(|(page, rights)| (*page.region, *rights)).collect();
    Attempt { raw: target.raw, offset, access, value: WRITTEN, opened, cpu: setting.cpu }
}

/// A row by a thread: it opens the others, the target as the row says, and accesses it.
pub(in crate::scenarios) fn by_thread(
    tools: &Tools,
    checks: &Checks,
    target: &Page,
    row: Row,
    setting: Setting<'_>,
) -> Run {
    target.put(0, BEFORE)?;
    let mut attempt = attempt(target, 0, row.access, setting);
    let _ = attempt.opened.push((*target.region, row.rights));
    let came = attempt.make(tools)?;
    let opened =
        setting.others.iter().fold(tools.base_word()?, |word, (page, rights)| word.with(page.key, *rights));
    judge(checks, target, row, opened, came)
}

/// What came of a row by a thread whose word is `rest` with the row's rights.
fn judge(checks: &Checks, target: &Page, row: Row, rest: Pkrs, came: Came) -> Run {
    let Row { rights, access, faults } = row;
    let word = rest.with(target.key, rights);
    let what = format_args!("thread with {:#010x}, {access}", word.raw());
    match came {
        Came::Through(value) => {
            checks.that(!faults, format_args!("{what}: did not fault"))?;
            let expected = if access == Access::Read { BEFORE } else { WRITTEN };
            checks.same(format_args!("{what}: value"), value, expected)?;
        }
        Came::Fault(report) => {
            checks.that(faults, format_args!("{what}: faulted"))?;
            check_key_fault(checks, &report, target.address(), access, target.key, word)?;
        }
    }
    check_memory(checks, target, row, what)
}

/// A row by a probe under the word `rest` with the target's key as the row says.
pub(in crate::scenarios) fn by_probe(
    tools: &Tools,
    checks: &Checks,
    target: &Page,
    row: Row,
    rest: Pkrs,
) -> Run {
    by_probe_of(tools, checks, target, row, rest, Tools::probe)
}

/// One of the probes of [`Tools`].
pub(in crate::scenarios) type ProbeFn = fn(&Tools, u64, Pkrs, Access, u64) -> Result<Probed, Error>;

/// The same by another probe.
pub(in crate::scenarios) fn by_probe_of(
    tools: &Tools,
    checks: &Checks,
    target: &Page,
    row: Row,
    rest: Pkrs,
    probe_fn: ProbeFn,
) -> Run {
    target.put(0, BEFORE)?;
    let word = rest.with(target.key, row.rights);
    let probed = probe_fn(tools, target.address(), word, row.access, WRITTEN)?;
    let what = format_args!("probe under {:#010x}, {}", word.raw(), row.access);
    checks.same(what, probed, expected(row, target.address(), BEFORE))?;
    check_memory(checks, target, row, what)
}

/// What a probe of a row must give, with `held` in memory.
pub(in crate::scenarios) fn expected(row: Row, address: u64, held: u64) -> Probed {
    match (row.faults, row.access) {
        (true, Access::Read) => Probed::Faulted { code: 0x21, cr2: address },
        (true, Access::Write) => Probed::Faulted { code: 0x23, cr2: address },
        (false, Access::Read) => Probed::Done(held),
        (false, Access::Write) => Probed::Done(0),
    }
}

/// A write that was allowed is in memory; nothing else is.
pub(in crate::scenarios) fn check_memory(
    checks: &Checks,
    target: &Page,
    row: Row,
    what: core::fmt::Arguments<'_>,
) -> Run {
    let expected = if row.access == Access::Write && !row.faults { WRITTEN } else { BEFORE };
    checks.same(format_args!("{what}: memory"), target.get(0)?, expected)
}

/// The kernel's own key under the word `rest`. A write that is allowed is left out: it would change the kernel's data.
fn kernel_key(tools: &Tools, checks: &Checks, rest: Pkrs) -> Run {
    let address = tools.kernel_page()?;
    for row in MATRIX.into_iter().filter(|row| row.access == Access::Read || row.faults) {
        let word = rest.with(Pkey::KERNEL, row.rights);
        let probed = tools.probe(address, word, row.access, WRITTEN)?;
        let same = match probed {
            // What the kernel's data holds is nobody's business here.
            Probed::Done(_) => !row.faults,
            Probed::Faulted { .. } => row.faults && probed == expected(row, address, 0),
        };
        let (word, access) = (word.raw(), row.access);
        checks.that(same, format_args!("kernel's key, {access} under {word:#010x}: {probed:x?}"))?;
    }
    Ok(())
}
