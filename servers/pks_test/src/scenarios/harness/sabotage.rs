//! P21, the part in the guest: a check that cannot fail is no check. The state behind a check is damaged, by SelfTest
//! behind the kernel's back, and the very functions that other scenarios check with must then say that something is
//! wrong. Before each damage and after it was put right they must say that all is well.
//!
//! The other part of P21, whole kernels with a mistake built in, is `just mutants`.

use libpks::abi::fault::{FaultAccess, FaultKind, FaultReport};
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;

use crate::bench::{Bound, Probed, Target, Tools};
use crate::scenarios::access::matrix::{
    self, MATRIX, Row, Setting, by_probe, by_probe_of, by_thread, check_leaf,
};
use crate::scenarios::keys::audit::check_audit;
use crate::scenarios::registers::defaults::check_words;
use crate::scenarios::switching::forced::check_switched;
use crate::subject::{Attempt, Came, check_key_fault};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// The row that must fault when a key is closed, and the one that must not when it is open.
const CLOSED_READ: Row = MATRIX[1];
const OPEN_WRITE: Row = MATRIX[2];
const READ_ONLY_WRITE: Row = MATRIX[4];

/// Damages something, looks, and puts it right.
type Damage = fn(&Rig<'_>) -> Run;

/// A check that must hold.
fn holds(checks: &Checks, what: &str, check_fn: impl FnOnce(&Checks) -> Run) -> Run {
    let inner = Checks::default();
    let came = check_fn(&inner);
    checks.that(inner.made() > 0, format_args!("{what}: nothing was checked"))?;
    came
}

/// A check that must not.
fn bites(checks: &Checks, what: &str, check_fn: impl FnOnce(&Checks) -> Run) -> Run {
    match check_fn(&Checks::default()) {
        Err(Stop(_)) => checks.that(true, format_args!("{what}")),
        Ok(()) => checks.that(false, format_args!("{what}: the check did not notice")),
    }
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (target, other) = (Target::new(tools)?, Target::new(tools)?);
    let damages: [(&str, Damage); 9] = [
        ("leaf's key", leaf_key),
        ("leaf's key opened", leaf_opened),
        ("word", word),
        ("CR0.WP", write_protect),
        ("CR4.PKS", keys_off),
        ("rights of all threads", global),
        ("memory", memory),
        ("fault report", reports),
        ("count of switches", switches),
    ];
    let rig = Rig { tools, checks, target: &target, other: &other };
    for (_, damage) in &damages {
        damage(&rig)?;
    }
    let names = damages.map(|(name, _)| name);
    Ok(cut(format_args!("noticed: {names:?}")))
}

struct Rig<'a> {
    tools: &'a Tools,
    checks: &'a Checks,
    target: &'a Target,
    other: &'a Target,
}

impl Rig<'_> {
    fn thread(&self, row: Row) -> impl Fn(&Checks) -> Run {
        move |checks| by_thread(self.tools, checks, self.target, row, Setting::default())
    }

    fn probe(&self, row: Row) -> impl Fn(&Checks) -> Run {
        move |checks| by_probe(self.tools, checks, self.target, row, Pkrs::DEFAULT)
    }

    fn leaf(&self) -> impl Fn(&Checks) -> Run {
        move |checks| check_leaf(self.tools, checks, self.target)
    }

    fn audit(&self) -> impl Fn(&Checks) -> Run {
        move |checks| check_audit(self.tools, checks).map(drop)
    }

    /// All checks that look at the page hold.
    fn sound(&self) -> Run {
        holds(self.checks, "leaf", self.leaf())?;
        holds(self.checks, "audit", self.audit())?;
        for row in MATRIX {
            holds(self.checks, "row by thread", self.thread(row))?;
            holds(self.checks, "row by probe", self.probe(row))?;
        }
        Ok(())
    }
}

/// The page carries another key than the books say.
fn leaf_key(rig: &Rig<'_>) -> Run {
    rig.sound()?;
    {
        let _damage = rig.tools.tamper_with_leaf(rig.target.address(), rig.other.key)?;
        bites(rig.checks, "leaf", rig.leaf())?;
        bites(rig.checks, "audit", rig.audit())?;
        // The guard of whoever looks at memory opens the key of the books, so here the kernel's stub looks alone.
        let open = Pkrs::DEFAULT.with(rig.target.key, Rights::ReadWrite);
        let address = rig.target.address();
        bites(rig.checks, "open read", |checks| {
            let read = rig.tools.probe(address, open, Access::Read, 0)?;
            let faulted = matches!(read, Probed::Faulted { .. });
            checks.same(format_args!("faulted"), faulted, false)
        })?;
    }
    rig.sound()
}

/// The page carries key 0, which is closed to nobody.
fn leaf_opened(rig: &Rig<'_>) -> Run {
    {
        let _damage = rig.tools.tamper_with_leaf(rig.target.address(), Pkey::OPEN)?;
        bites(rig.checks, "leaf", rig.leaf())?;
        bites(rig.checks, "audit", rig.audit())?;
        for row in MATRIX.into_iter().filter(|row| row.faults) {
            bites(rig.checks, "row by thread", rig.thread(row))?;
            bites(rig.checks, "row by probe", rig.probe(row))?;
        }
    }
    rig.sound()
}

/// A thread has another word than it should.
fn word(rig: &Rig<'_>) -> Run {
    let _bound = Bound::to(0)?;
    let base = rig.tools.base_word()?;
    let look = |checks: &Checks| check_words(checks, rig.tools.words(0)?, base, format_args!("now"));
    holds(rig.checks, "words", look)?;
    for wrong in [Rights::ReadOnly, Rights::ReadWrite] {
        rig.tools.tamper_with_word(base.with(rig.target.key, wrong))?;
        bites(rig.checks, "words", look)?;
        // With the wrong word the CPU lets through what it must not: the word is not for show.
        let read = rig.target.raw.read_u64(0);
        rig.checks.that(read.is_ok(), format_args!("the word that was put in is not in force: {read:?}"))?;
        // Whatever is opened has the books asked again.
        drop(rig.other.region.open_read()?);
        holds(rig.checks, "words", look)?;
    }
    Ok(())
}

fn write_protect(rig: &Rig<'_>) -> Run {
    let look = |probe_fn: matrix::ProbeFn| {
        move |checks: &Checks| {
            by_probe_of(rig.tools, checks, rig.target, READ_ONLY_WRITE, Pkrs::DEFAULT, probe_fn)
        }
    };
    holds(rig.checks, "with CR0.WP", look(Tools::probe))?;
    bites(rig.checks, "without CR0.WP", look(Tools::probe_wp_off))?;
    holds(rig.checks, "with CR0.WP again", look(Tools::probe))
}

fn keys_off(rig: &Rig<'_>) -> Run {
    for row in MATRIX.into_iter().filter(|row| row.faults) {
        let look = |probe_fn: matrix::ProbeFn| {
            move |checks: &Checks| by_probe_of(rig.tools, checks, rig.target, row, Pkrs::DEFAULT, probe_fn)
        };
        holds(rig.checks, "with CR4.PKS", look(Tools::probe))?;
        bites(rig.checks, "without CR4.PKS", look(Tools::probe_keys_off))?;
        holds(rig.checks, "with CR4.PKS again", look(Tools::probe))?;
    }
    Ok(())
}

/// All threads have rights that no row knows of.
fn global(rig: &Rig<'_>) -> Run {
    rig.target.region.open_global(Opening::ReadOnly)?;
    let noticed = bites(rig.checks, "row by thread", rig.thread(CLOSED_READ));
    rig.target.region.open_global(Opening::None)?;
    noticed?;
    rig.sound()
}

/// A write that was allowed is not in memory; one that was forbidden is.
fn memory(rig: &Rig<'_>) -> Run {
    let look =
        |row| move |checks: &Checks| matrix::check_memory(checks, rig.target, row, format_args!("now"));
    holds(rig.checks, "row", rig.thread(OPEN_WRITE))?;
    holds(rig.checks, "memory after a write", look(OPEN_WRITE))?;
    bites(rig.checks, "memory after a write that must not be", look(READ_ONLY_WRITE))?;
    rig.target.put(0, 0)?;
    bites(rig.checks, "memory without the write", look(OPEN_WRITE))
}

/// A change of one field of a report.
type Forgery = fn(&mut FaultReport);

/// Reports of something else, each wrong in one field.
fn reports(rig: &Rig<'_>) -> Run {
    let Rig { tools, checks, target, .. } = *rig;
    let opened = heapless::Vec::new();
    let attempt = Attempt { raw: target.raw, offset: 0, access: Access::Write, value: 0, opened, cpu: None };
    let Came::Fault(report) = attempt.make(tools)? else {
        return Err(Stop::failed(format_args!("a write to a closed page went through")));
    };
    let base = tools.base_word()?;
    let look = |report: &FaultReport, checks: &Checks| {
        check_key_fault(checks, report, target.address(), Access::Write, target.key, base)
    };
    holds(checks, "report", |checks| look(&report, checks))?;
    let forgeries: [(&str, Forgery); 8] = [
        ("kind", |report| report.kind = FaultKind::NotMapped),
        ("domain", |report| report.domain_name.clear()),
        ("access", |report| report.access = FaultAccess::Read),
        ("address", |report| report.address += 8),
        ("error code", |report| report.error_code = 0x03),
        ("key", |report| report.key = report.key.map(|key| key ^ 1)),
        ("recorded word", |report| report.pkrs ^= 1 << 30),
        ("live word", |report| report.pkrs_live ^= 1 << 31),
    ];
    for (what, forge) in forgeries {
        let mut forged = report.clone();
        forge(&mut forged);
        bites(checks, what, |checks| look(&forged, checks))?;
    }
    Ok(())
}

fn switches(rig: &Rig<'_>) -> Run {
    let count = rig.tools.counters(0)?.switches;
    holds(rig.checks, "a switch", |checks| check_switched(checks, count, count + 1))?;
    bites(rig.checks, "no switch", |checks| check_switched(checks, count, count))
}
