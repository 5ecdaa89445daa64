//! S1 and P1: every CPU has CPUID's bit, that of CR4 and the default word.
//!
//! The words are read by a thread that runs on the CPU in question, and it opens something in between: what is read is
//! then neither a constant nor what the kernel's entry has just written.

use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use crate::bench::{Target, Tools, Words, cpu_names_keys};
use crate::subject::{FAULT, Subject, access, check_key_fault, open};
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
            check_words(checks, *seen, expected, format_args!("CPU {cpu}, {when}"))?;
        }
    }
    Ok(cut(format_args!("{cpus} CPUs: domain {:#010x}, kernel {:#010x}", base.raw(), Pkrs::KERNEL.raw())))
}

/// The words of a CPU: the thread's is this one, the kernel's is its own, and the keys are on.
pub(in crate::scenarios) fn check_words(
    checks: &Checks,
    seen: Words,
    expected: Pkrs,
    when: core::fmt::Arguments<'_>,
) -> Run {
    checks.same(format_args!("{when}: thread's word"), seen.interrupted, expected)?;
    checks.same(format_args!("{when}: kernel's word"), seen.kernel, u64::from(Pkrs::KERNEL.raw()))?;
    checks.that(seen.keys_on, format_args!("{when}: CR4 is {:#x}, without keys", seen.cr4))
}

/// P1: CPUID, CR4 and the register itself on every CPU. The kernel's entry reads it at a fault of the thread, before anything
/// has written it; the thread's word differs from every default, but in a second round it is the default.
pub(in crate::scenarios) fn registers(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (closed, marker) = (Target::new(tools)?, Target::new(tools)?);
    let (base, cpus) = (tools.base_word()?, tools.cpus()?);
    for cpu in 0..cpus {
        for rights in [Rights::ReadOnly, Rights::NoAccess] {
            let (inside, region, raw) = (*tools, *marker.region, closed.raw);
            let subject = Subject::start(tools, Some(cpu), move |_| {
                let _marker = open(region, rights)?;
                let seen = (cpu_names_keys(inside.isolation), inside.words(cpu)?);
                access(&raw, 0, Access::Read, 0)?;
                Ok(seen)
            })?;
            subject.until(FAULT)?;
            let report = subject.report()?;
            let word = base.with(marker.key, rights);
            checks.same(format_args!("the CPU of the fault"), report.cpu, cpu)?;
            check_key_fault(checks, &report, closed.address(), Access::Read, closed.key, word)?;
            subject.thread().set_rights(*closed.region, libpks::rt::region::Access::ReadOnly)?;
            subject.thread().resume()?;
            let (has_keys, words) = subject.finish()?;
            checks.that(has_keys, format_args!("CPU {cpu}: CPUID does not name {}", tools.isolation))?;
            check_words(checks, words, word, format_args!("CPU {cpu}, {rights}"))?;
        }
    }
    Ok(cut(format_args!("{cpus} CPUs: CPUID, CR4 and PKRS at a fault, {:#010x}", base.raw())))
}
