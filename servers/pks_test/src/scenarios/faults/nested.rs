//! P9: traps inside traps, ten deep, and an NMI in the innermost: each has the kernel's word before and after those inside
//! it; the thread keeps its own. Then the same among threads, where a handler of faults may fault and be interrupted
//! ([`chain`]).

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use super::chain;
use crate::bench::{Bound, Innermost, Probed, Target, Tools};
use crate::subject::open;
use libpks::proto::pks_test::checks::{Checks, Run};

/// Traps in the kernel inside one another: as many as have a stack.
const LEVELS: u64 = 10;

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let cpus = tools.cpus()?;
    for cpu in 0..cpus {
        on_cpu(tools, checks, &target, cpu, cpus)?;
    }
    let mut depth = 0;
    for cpu in [0, cpus - 1] {
        depth = chain::run(tools, checks, cpu)?;
    }
    let kernel = Pkrs::KERNEL.raw();
    Ok(cut(format_args!(
        "{LEVELS} traps inside one another and NMIs on {cpus} CPUs had {kernel:#010x}; {depth} handlers upon each other"
    )))
}

fn on_cpu(tools: &Tools, checks: &Checks, target: &Target, cpu: u32, cpus: u32) -> Run {
    let kernel = u64::from(Pkrs::KERNEL.raw());
    let _bound = Bound::to(cpu)?;
    let _held = open(*target.region, Rights::ReadOnly)?;
    let word = tools.base_word()?.with(target.key, Rights::ReadOnly);
    let thread_keeps_its = |after: &str| {
        checks.same(
            format_args!("CPU {cpu}: thread's word after {after}"),
            tools.words(cpu)?.interrupted,
            word,
        )
    };
    for (innermost, nmi) in [(Innermost::Returns, 0), (Innermost::TakesNmi, kernel)] {
        for level in 0..LEVELS {
            let nest = tools.nested_trap(LEVELS, innermost, level)?;
            checks.same(
                format_args!("CPU {cpu}: words around nested trap {level}"),
                nest.words,
                [kernel; 4],
            )?;
            checks.same(format_args!("CPU {cpu}: DEPTH of nested trap {level}"), nest.depth, level + 2)?;
            checks.same(format_args!("CPU {cpu}: nested traps"), nest.reached, LEVELS)?;
            checks.same(format_args!("CPU {cpu}: word of an NMI inside them"), nest.nmi, nmi)?;
            thread_keeps_its("nested traps")?;
        }
    }
    let too_many = tools.nested_trap(LEVELS + 1, Innermost::Returns, 0);
    checks.same(format_args!("more traps than have a stack"), too_many, Err(Error::InvalidArgument))?;
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
    thread_keeps_its("NMIs")
}
