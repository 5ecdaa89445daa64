//! P22: a machine without keys says so and goes on; a machine with keys gives the counterpart of each answer.

use libpks::abi::Error;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::{SCENARIOS, Seen, Verdict};
use libpks::rt::text::cut;

use crate::bench::{Bound, Innermost, Page, Target, Tools, cpu_names_keys};
use crate::service::no_keys;
use crate::subject::{Attempt, Came, Subject};
use libpks::proto::pks_test::checks::{Checks, Run};

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let isolation = tools.inspect.system()?.isolation;
    let has_keys = isolation.has_keys();
    checks.same(format_args!("isolation when this server started"), tools.isolation, isolation)?;
    let cpus = tools.cpus()?;
    for cpu in 0..cpus {
        let says = Subject::start(tools, Some(cpu), move |_| Ok(cpu_names_keys(isolation)))?.finish()?;
        checks.same(format_args!("CPU {cpu}: CPUID and the kernel agree"), says, has_keys)?;
    }
    typed_errors(tools, checks, if has_keys { Ok(()) } else { Err(Error::KeysUnsupported) })?;
    memory(tools, checks, has_keys)?;
    // What the scenarios that need keys answer here.
    let skips = no_keys(tools).verdict == Verdict::Skip;
    checks.same(format_args!("the others skip"), skips, !has_keys)?;
    let need = SCENARIOS.iter().filter(|scenario| scenario.needs_keys).count();
    Ok(if has_keys {
        cut(format_args!("keys on {cpus} CPUs, and what is closed faults"))
    } else {
        cut(format_args!("isolation: NONE on {cpus} CPUs; {need} scenarios skip; nothing is walled off"))
    })
}

/// Every operation that needs a key answers alike.
fn typed_errors(tools: &Tools, checks: &Checks, expected: Result<(), Error>) -> Run {
    let _bound = Bound::to(0)?;
    let page = Page::new(None)?;
    let word = Pkrs::DEFAULT.with(page.key, Rights::ReadWrite);
    let answers = [
        ("a key of the pool", tools.keys.allocate().map(drop)),
        ("a probe", tools.probe(page.address(), word, Access::Read, 0).map(drop)),
        ("a probe without CR0.WP", tools.probe_wp_off(page.address(), word, Access::Read, 0).map(drop)),
        (
            "a probe without the keys' bit of CR4",
            tools.probe_keys_off(page.address(), word, Access::Read, 0).map(drop),
        ),
        ("the words of a CPU", tools.words(0).map(drop)),
        ("a nested trap's words", tools.nested_trap(1, Innermost::Returns, 0).map(drop)),
        ("an NMI's words", tools.nmi(0).map(drop)),
        ("a raw write", tools.write_raw(u64::from(Pkrs::KERNEL.raw())).map(drop)),
    ];
    for (what, answer) in answers {
        checks.same(format_args!("{what}"), answer, expected)?;
    }
    Ok(())
}

/// Regions work alike; whether somebody who has not opened one is kept out is the difference.
fn memory(tools: &Tools, checks: &Checks, has_keys: bool) -> Run {
    if has_keys {
        let target = Target::new(tools)?;
        kept_out(tools, checks, &target, true)
    } else {
        let page = Page::new(None)?;
        kept_out(tools, checks, &page, false)
    }
}

fn kept_out(tools: &Tools, checks: &Checks, page: &Page, has_keys: bool) -> Run {
    checks.same(format_args!("a region has a key"), page.key.index() != 0, has_keys)?;
    checks.same(format_args!("key in the page table"), tools.leaf(page.address())?.key(), page.key)?;
    page.put(8, 5)?;
    checks.same(format_args!("what was written under a guard"), page.get(8)?, 5)?;
    let opened = heapless::Vec::new();
    let attempt = Attempt { raw: page.raw, offset: 8, access: Access::Read, value: 0, opened, cpu: None };
    match attempt.make(tools)? {
        Came::Fault(_) => checks.that(has_keys, format_args!("a fault without keys")),
        Came::Through(value) => {
            checks.that(!has_keys, format_args!("a read without a guard went through"))?;
            checks.same(format_args!("what it read"), value, 5)
        }
    }
}
