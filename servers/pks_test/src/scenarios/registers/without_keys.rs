//! P22: a machine without keys says so, and walls off what is closed all the same; what only a register of rights can do gets a
//! typed error there.

use libpks::abi::Error;
use libpks::abi::inspect::Isolation;
use libpks::pkey::{Access, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;

use crate::bench::{Bound, Innermost, Page, Target, Tools, cpu_names_keys};
use crate::subject::{Attempt, Came, Subject};
use libpks::proto::pks_test::checks::{Checks, Run};

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let isolation = tools.inspect.system()?.isolation;
    checks.same(format_args!("isolation when this server started"), tools.isolation, isolation)?;
    let cpus = tools.cpus()?;
    for cpu in 0..cpus {
        let says = Subject::start(tools, Some(cpu), move |_| Ok(cpu_names_keys(isolation)))?.finish()?;
        checks.that(says, format_args!("CPU {cpu} does not name the keys of {isolation}"))?;
    }
    typed_errors(tools, checks)?;
    kept_out(tools, checks, &*Target::new(tools)?)?;
    Ok(cut(format_args!("{isolation} on {cpus} CPUs, and what is closed faults")))
}

/// Whether an operation needs a register of rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needs {
    Register,
    Nothing,
}

fn typed_errors(tools: &Tools, checks: &Checks) -> Run {
    use Needs::{Nothing, Register};
    let _bound = Bound::to(0)?;
    let page = Page::new(None)?;
    let word = Pkrs::DEFAULT.with(page.key, Rights::ReadWrite);
    let answers = [
        (Nothing, "a key of the pool", tools.keys.allocate().map(drop)),
        (Register, "a key of the CPU", tools.keys.allocate_hardware().map(drop)),
        (Nothing, "a probe", tools.probe(page.address(), word, Access::Read, 0).map(drop)),
        (
            Nothing,
            "a probe without CR0.WP",
            tools.probe_wp_off(page.address(), word, Access::Read, 0).map(drop),
        ),
        (
            Register,
            "a probe without the keys' bit of CR4",
            tools.probe_keys_off(page.address(), word, Access::Read, 0).map(drop),
        ),
        (Nothing, "the words of a CPU", tools.words(0).map(drop)),
        (Nothing, "a nested trap's words", tools.nested_trap(1, Innermost::Returns, 0).map(drop)),
        (Nothing, "an NMI's words", tools.nmi(0).map(drop)),
        (Register, "a raw write", tools.write_raw(u64::from(Pkrs::KERNEL.raw())).map(drop)),
    ];
    let words = tools.words(0)?;
    checks.that(words.keys_on, format_args!("CR4 is {:#x} with {}", words.cr4, tools.isolation))?;
    for (needs, what, answer) in answers {
        let refused = needs == Register && tools.isolation == Isolation::Views;
        let expected = if refused { Err(Error::KeysUnsupported) } else { Ok(()) };
        checks.same(format_args!("{what}"), answer, expected)?;
    }
    Ok(())
}

/// Who has not opened a region is kept out.
fn kept_out(tools: &Tools, checks: &Checks, page: &Page) -> Run {
    checks.that(page.key.index() != 0, format_args!("a region has no key"))?;
    checks.same(format_args!("key in the page table"), tools.leaf(page.address())?.key(), page.key)?;
    page.put(8, 5)?;
    checks.same(format_args!("what was written under a guard"), page.get(8)?, 5)?;
    let opened = heapless::Vec::new();
    let attempt = Attempt { raw: page.raw, offset: 8, access: Access::Read, value: 0, opened, cpu: None };
    match attempt.make(tools)? {
        Came::Fault(_) => Ok(()),
        Came::Through(_) => checks.that(false, format_args!("a read without a guard went through")),
    }
}
