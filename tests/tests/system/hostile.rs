//! Boots that get something bad: each must say what is wrong, and nothing else may stop.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine};
use libpks::abi::name;
use libpks::proto::adversary::{CRIMES, Crime};
use libpks::proto::testlink::{Action, Reply, Request};
use tests::failure::{Failure, check};
use tests::plan::{BootFn, End, Ending, Exercise, Plan, Running};

use crate::lab::Lab;
use crate::scenarios::{EXCHANGE, live_domains};

/// What it may take until the console says what is wrong.
const SOON: Duration = Duration::from_secs(30);
/// What a crime may take, the adversary's restart included.
const CRIME: Duration = Duration::from_secs(30);

/// The server whose module is spoilt. The rest must go on without it.
const VICTIM: &str = "pks_test";

/// All hostile boots.
pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    let mut plans = vec![
        module(lab, "missing_module", |_| None),
        module(lab, "empty_module", |_| Some(Vec::new())),
        module(lab, "truncated_module", |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            Some(bytes)
        }),
        module(lab, "module_without_magic", |mut bytes| {
            bytes[0] ^= 0xff;
            Some(bytes)
        }),
        module(lab, "module_with_wrong_entry", |mut bytes| {
            // e_entry of the ELF header (System V ABI, figure 4-3).
            bytes[24..32].copy_from_slice(&0xffff_ffff_8000_0000_u64.to_le_bytes());
            Some(bytes)
        }),
        module(lab, "module_of_zeros", |bytes| Some(vec![0; bytes.len()])),
    ];
    plans.push(unbootable("too_little_memory", lab.boots(machine().memory_mib(8)), &["memory"]));
    plans.push(unbootable(
        "corrupt_manifest",
        lab.boots_with(machine(), "manifest", |mut bytes| {
            bytes.truncate(bytes.len() - 1);
            Some(bytes)
        }),
        &["manifest"],
    ));
    plans.push(unbootable(
        "missing_manifest",
        lab.boots_with(machine(), "manifest", |_| None),
        &["manifest"],
    ));
    plans.push(unbootable("missing_init", lab.boots_with(machine(), "init", |_| None), &["init"]));
    plans.push(unbootable("no_acpi", lab.boots(machine().extra(["-machine", "acpi=off"])), &["ACPI"]));
    plans.extend([1, 4].map(|cpus| adversary(lab, cpus)));
    plans
}

fn machine() -> Machine {
    Machine::new(Loader::Direct)
}

/// The victim's module is changed: it does not run, the console says why, and the others do their work.
fn module(
    lab: &Arc<Lab>,
    case: &str,
    change_fn: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Plan {
    let exercises = vec![
        Exercise::new("is_refused_with_a_reason", |running: &mut Running| {
            running.console.expect(VICTIM, SOON)?;
            let live = live_domains(running)?;
            check(live.iter().all(|domain| domain.name != VICTIM), || format!("it runs: {live:?}"))
        }),
        Exercise::new("the_others_run", |running: &mut Running| {
            let live = live_domains(running)?;
            for other in ["init", "console", "shell", "testlink"] {
                check(live.iter().any(|domain| domain.name == other), || {
                    format!("{other} does not run: {live:?}")
                })?;
            }
            let restart = Request::Server { name: name("shell"), action: Action::Restart };
            let reply = running.link.ask(&restart, EXCHANGE)?;
            check(reply == Reply::Done, || format!("restarting the shell gave {reply:?}"))
        }),
    ];
    Plan::new(
        format!("hostile_{case}"),
        lab.boots_with(machine(), VICTIM, change_fn),
        Ending::Closing,
        exercises,
    )
}

/// Nothing can run: the console must say why, and the machine must not pretend otherwise.
fn unbootable(name: &str, boot_fn: BootFn, words: &'static [&'static str]) -> Plan {
    let exercise = Exercise::new("says_why", move |running: &mut Running| {
        words.iter().try_for_each(|word| running.console.expect(word, SOON).map(drop))
    });
    let mut plan = Plan::new(format!("hostile_{name}"), boot_fn, Ending::Exit(End::Panic), vec![exercise]);
    plan.ready_limit = None;
    plan
}

/// Every crime that the adversary knows, with 1 and with 4 CPUs; afterwards everyone else still runs.
fn adversary(lab: &Arc<Lab>, cpus: u32) -> Plan {
    let exercises =
        CRIMES.iter().map(|crime| Exercise::new(crime.name, move |running| commit(running, crime)));
    let boot_fn = lab.boots(machine().cpus(cpus));
    let mut plan = Plan::new(format!("adversary_cpus{cpus}"), boot_fn, Ending::Closing, exercises.collect());
    plan.weight = cpus as usize;
    plan
}

fn commit(running: &mut Running, crime: &Crime) -> Result<(), Failure> {
    let before = live_domains(running)?.len();
    let consequence = match running.link.ask(&Request::Crime { name: name(crime.name) }, CRIME)? {
        Reply::Crime(consequence) => consequence,
        other => return Err(Failure::Wrong(format!("not a consequence: {other:?}"))),
    };
    check(crime.is_punished_by(&consequence), || {
        format!("{:?} expected, got {consequence:?}", crime.sentence)
    })?;
    let after = live_domains(running)?;
    check(after.len() == before, || format!("{before} domains ran before, now {after:?}"))
}
