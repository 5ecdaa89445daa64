//! P9: a trap inside a trap, and an NMI, each have the kernel's word, before and after; the thread keeps its own. Then
//! the same among threads, where a handler of faults may fault and be interrupted ([`chain`]).

use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use super::chain;
use crate::bench::{Bound, Probed, Target, Tools};
use crate::subject::open;
use libpks::proto::pks_test::checks::{Checks, Run};

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let kernel = u64::from(Pkrs::KERNEL.raw());
    let cpus = tools.cpus()?;
    for cpu in 0..cpus {
        let _bound = Bound::to(cpu)?;
        let _held = open(*target.region, Rights::ReadOnly)?;
        let word = tools.base_word()?.with(target.key, Rights::ReadOnly);
        checks.same(
            format_args!("CPU {cpu}: words around a nested trap"),
            tools.nested_trap()?,
            [kernel; 3],
        )?;
        checks.same(
            format_args!("CPU {cpu}: thread's word after it"),
            tools.words(cpu)?.interrupted,
            word,
        )?;
        // A fault, not a breakpoint: the kernel's handler of the call takes it.
        let probed = tools.probe(target.address(), Pkrs::DEFAULT, Access::Write, 0)?;
        checks.same(
            format_args!("CPU {cpu}: a fault inside a handler"),
            probed,
            Probed::Faulted { code: 0x23, cr2: target.address() },
        )?;
        for of in [cpu, (cpu + 1) % cpus] {
            checks.same(format_args!("CPU {of}: words in an NMI and after"), tools.nmi(of)?, [kernel; 2])?;
        }
        checks.same(
            format_args!("CPU {cpu}: thread's word after NMIs"),
            tools.words(cpu)?.interrupted,
            word,
        )?;
    }
    let mut depth = 0;
    for cpu in [0, cpus - 1] {
        depth = chain::run(tools, checks, cpu)?;
    }
    let kernel = Pkrs::KERNEL.raw();
    Ok(cut(format_args!(
        "traps and NMIs on {cpus} CPUs had {kernel:#010x}; {depth} handlers upon each other"
    )))
}
