//! S1: every CPU has CR4.PKS and the default word.
//!
//! The words are read by a thread that runs on the CPU in question, and it opens something in between: what is read is
//! then neither a constant nor what the kernel's entry has just written.

use libpks::pkey::{Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use crate::bench::{CR4_PKS, Target, Tools};
use crate::subject::{Subject, open};
use libpks::proto::pks_test::checks::{Checks, Run};

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let target = Target::new(tools)?;
    let (base, cpus) = (tools.base_word()?, tools.cpus()?);
    let (region, inside) = (*target.region, *tools);
    for cpu in 0..cpus {
        let subject = Subject::start(tools, Some(cpu), move |_| {
            let before = inside.words(cpu)?;
            let held = open(region, Rights::ReadOnly)?;
            let open = inside.words(cpu)?;
            drop(held);
            Ok([before, open, inside.words(cpu)?])
        })?;
        let words = subject.finish()?;
        let expected = [base, base.with(target.key, Rights::ReadOnly), base];
        for ((seen, expected), when) in words.iter().zip(expected).zip(["at first", "while open", "after"]) {
            checks.same(format_args!("CPU {cpu}, thread's word {when}"), seen.interrupted, expected)?;
            checks.same(
                format_args!("CPU {cpu}, kernel's word {when}"),
                seen.kernel,
                u64::from(Pkrs::KERNEL.raw()),
            )?;
            checks.that(
                seen.cr4 & CR4_PKS != 0,
                format_args!("CPU {cpu}: CR4 is {:#x}, without PKS", seen.cr4),
            )?;
        }
    }
    Ok(cut(format_args!("{cpus} CPUs: domain {:#010x}, kernel {:#010x}", base.raw(), Pkrs::KERNEL.raw())))
}
