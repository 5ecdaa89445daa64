//! P4 and P14: what a key does in a leaf of any size, and that it does nothing about fetches.

use libpks::abi::Error;
use libpks::abi::inspect::Isolation;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use super::matrix::{MATRIX, Row, expected};
use crate::bench::{LeafAccess, LeafShape, Probed, Target, Tools};
use libpks::proto::pks_test::checks::{Checks, Run};

/// XD in a leaf (Intel SDM vol. 3A, table 4-20).
const EXECUTE_DISABLE: u64 = 1 << 63;
/// Error codes of #PF without the bit for keys: a fetch from a page that is there, a write to one that is read-only.
const FETCH_DENIED: u64 = 0x11;
const WRITE_DENIED: u64 = 0x03;
/// And a fetch from a page that a root of the rights word does not show.
const FETCH_HIDDEN: u64 = 0x31;
/// What is read or written.
const VALUE: u64 = 0x4c45_4146_0000_0001;
/// What the code in the page returns.
const RETURNED: u64 = 0x600d_c0de;

/// P4: the matrix through leaves of 4 KiB, 2 MiB and 1 GiB; the key is the leaf's at every level.
pub(in crate::scenarios) fn sizes(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let mut levels = heapless::Vec::<u8, 3>::new();
    for level in 1..=3 {
        let shape = LeafShape { level, executable: false };
        match tools.leaf_access(shape, target.key, Pkrs::DEFAULT, LeafAccess::Read, 0) {
            Err(Error::Unsupported) if level == 3 => continue,
            other => other.map(drop)?,
        }
        // Tables that the first access has made stay; everything else must come back.
        let free = tools.inspect.system()?.frames_free;
        for row in MATRIX {
            for rest in [Pkrs::DEFAULT, Pkrs::from_raw(0)] {
                through(tools, checks, shape, &target, row, rest)?;
            }
        }
        checks.same(format_args!("level {level}: free frames"), tools.inspect.system()?.frames_free, free)?;
        let _ = levels.push(level);
    }
    checks.that(levels.len() >= 2, format_args!("only levels {levels:?}"))?;
    Ok(cut(format_args!("key {} in leaves of levels {levels:?}, six rows each", target.key)))
}

fn through(tools: &Tools, checks: &Checks, shape: LeafShape, target: &Target, row: Row, rest: Pkrs) -> Run {
    let word = rest.with(target.key, row.rights);
    let access = if row.access == Access::Read { LeafAccess::Read } else { LeafAccess::Write };
    let came = tools.leaf_access(shape, target.key, word, access, VALUE)?;
    let (level, raw) = (shape.level, word.raw());
    let what = format_args!("level {level}, {access:?} under {raw:#010x}");
    checks.same(
        format_args!("{what}: level and key of the leaf"),
        (came.leaf.level, came.leaf.key()),
        (u64::from(level), target.key),
    )?;
    checks.same(what, came.probed, expected(row, came.address, VALUE))?;
    let memory = if row.access == Access::Write && row.faults { !VALUE } else { VALUE };
    checks.same(format_args!("{what}: memory"), came.memory, memory)?;
    let left = tools.leaf(came.address).map(|leaf| leaf.entry);
    checks.same(format_args!("{what}: what is left of the mapping"), left, Err(Error::NotFound))
}

/// P14: a fetch is not checked against the key, XD forbids it; data accesses to the same page obey both. A root that shows the
/// page to no access refuses the fetch too.
pub(in crate::scenarios) fn fetch(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    for rights in [Rights::NoAccess, Rights::ReadOnly, Rights::ReadWrite] {
        let word = Pkrs::DEFAULT.with(target.key, rights);
        let access = |executable, access, value| {
            tools.leaf_access(LeafShape { level: 1, executable }, target.key, word, access, value)
        };
        let from_text = access(true, LeafAccess::Fetch, RETURNED)?;
        checks.that(
            from_text.leaf.entry & EXECUTE_DISABLE == 0 && from_text.leaf.key() == target.key,
            format_args!("text is mapped by {:#x}", from_text.leaf.entry),
        )?;
        let hidden = tools.isolation == Isolation::Views && rights == Rights::NoAccess;
        let fetched = match hidden {
            true => Probed::Faulted { code: FETCH_HIDDEN, cr2: from_text.address },
            false => Probed::Done(RETURNED),
        };
        checks.same(format_args!("fetch with {rights}"), from_text.probed, fetched)?;
        let from_data = access(false, LeafAccess::Fetch, RETURNED)?;
        checks.that(
            from_data.leaf.entry & EXECUTE_DISABLE != 0,
            format_args!("data is mapped by {:#x}", from_data.leaf.entry),
        )?;
        let denied = Probed::Faulted { code: FETCH_DENIED, cr2: from_data.address };
        checks.same(format_args!("fetch from an XD page with {rights}"), from_data.probed, denied)?;
        // The same page as data: the key rules the read, and without the key's refusal the paging rights the write.
        let read = access(true, LeafAccess::Read, VALUE)?;
        let row = Row { rights, access: Access::Read, faults: rights == Rights::NoAccess };
        checks.same(
            format_args!("read of text with {rights}"),
            read.probed,
            expected(row, read.address, VALUE),
        )?;
        if rights == Rights::ReadWrite {
            let write = access(true, LeafAccess::Write, VALUE)?;
            let denied = Probed::Faulted { code: WRITE_DENIED, cr2: write.address };
            checks.same(format_args!("write to text with {rights}"), write.probed, denied)?;
            checks.same(format_args!("text afterwards"), write.memory, !VALUE)?;
        }
    }
    Ok(cut(format_args!("code ran under AD, WD and neither; XD forbade it each time")))
}
