//! P18, P19, P20: keys as resources.

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use crate::bench::{Bound, Probed, Target, Tools};
use crate::scenarios::access::matrix::all_targets;
use crate::subject::{Subject, open};
use libpks::proto::pks_test::checks::{Checks, Run};

/// P18: a page with another key obeys the new key, on every CPU and for a thread that has it open.
pub(in crate::scenarios) fn rekey(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (target, spare) = (Target::new(tools)?, Target::new(tools)?);
    let (old, new, address) = (target.key, spare.key, target.address());
    target.put(0, 1)?;
    let (only_old, only_new) =
        (Pkrs::DEFAULT.with(old, Rights::ReadWrite), Pkrs::DEFAULT.with(new, Rights::ReadWrite));
    let cpus = tools.cpus()?;
    let look = |word: Pkrs, cpu| {
        let inside = *tools;
        Subject::start(tools, Some(cpu), move |_| inside.probe(address, word, Access::Read, 0))?.finish()
    };
    for cpu in 0..cpus {
        // This also puts the old key into the CPU's TLB.
        checks.same(format_args!("CPU {cpu}, old key before"), look(only_old, cpu)?, Probed::Done(1))?;
    }
    {
        let _bound = Bound::to(0)?;
        let _held = open(*target.region, Rights::ReadWrite)?;
        target.region.rekey(spare.capability())?;
        checks.same(format_args!("key in the page table"), tools.leaf(address)?.key(), new)?;
        let word = tools.base_word()?.with(new, Rights::ReadWrite);
        checks.same(format_args!("the word of who has it open"), tools.words(0)?.interrupted, word)?;
        checks.same(format_args!("a write by who has it open"), target.raw.write_u64(0, 2), Ok(()))?;
    }
    for cpu in 0..cpus {
        let fault = Probed::Faulted { code: 0x21, cr2: address };
        checks.same(format_args!("CPU {cpu}, old key after"), look(only_old, cpu)?, fault)?;
        checks.same(format_args!("CPU {cpu}, new key after"), look(only_new, cpu)?, Probed::Done(2))?;
    }
    Ok(cut(format_args!("from key {old} to key {new} on {cpus} CPUs")))
}

/// P19: every mapping is as the rules say.
pub(in crate::scenarios) fn audit(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (pages, broken) = tools.audit()?;
    checks.same(format_args!("rules that a mapping breaks"), broken, 0)?;
    checks.that(pages > 100, format_args!("only {pages} pages were looked at"))?;
    Ok(cut(format_args!("{pages} pages")))
}

/// P20: more keys than there are gives a typed error, and all come back.
pub(in crate::scenarios) fn exhaustion(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let free = || tools.inspect.system().map(|system| system.keys_free);
    let before = free()?;
    for round in 0..3 {
        let targets = all_targets(tools)?;
        checks.same(format_args!("round {round}: keys to be had"), targets.len(), usize::from(before))?;
        checks.same(
            format_args!("round {round}: the pool"),
            tools.keys.allocate().map(drop),
            Err(Error::KeysExhausted),
        )?;
        drop(targets);
        checks.same(format_args!("round {round}: keys that came back"), free()?, before)?;
    }
    Ok(cut(format_args!("{before} keys, three times")))
}
