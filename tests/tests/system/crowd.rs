//! More domains than one view has room for: which servers are in one, namely those that call each other; and thousands of
//! domains, all of which answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::manifest;
use image::qemu::{Loader, Machine};
use image::workspace::Workspace;
use libpks::placement;
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};

use crate::lab::{Lab, MANIFEST};
use crate::scenarios::{self, live_domains};

/// Servers in one view.
const ROOM: usize = 3;
/// What it may take until the last server runs.
const STARTS: Duration = Duration::from_secs(60);
/// What the rest of a line may take.
const SOON: Duration = Duration::from_secs(10);

/// Who fills the machine with domains.
const CROWD: &str = "boot/crowd.toml";
/// So many are to find room in 256 MiB, and in 8 GiB.
const HUNDREDS: u32 = 300;
const THOUSANDS: u32 = 4096;
/// What it may take until all have answered and ended, twice.
const HUNDREDS_TIME: Duration = Duration::from_secs(180);
const THOUSANDS_TIME: Duration = Duration::from_secs(1500);

pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let hundreds = |&cpu| crowd(lab, (2, 256), cpu, HUNDREDS, HUNDREDS_TIME);
    let thousands = full.then(|| crowd(lab, (4, 8192), Cpu::Pks, THOUSANDS, THOUSANDS_TIME));
    Cpu::kinds(full).iter().map(hundreds).chain([servers(lab)]).chain(thousands).collect()
}

/// As many domains as there is memory for.
fn crowd(lab: &Arc<Lab>, (cpus, memory_mib): (u32, u64), cpu: Cpu, least: u32, limit: Duration) -> Plan {
    let exercise = Exercise::new("all_domains_answer", move |running: &mut Running| {
        running.console.expect("crowd: ", limit)?;
        let said = running.console.expect("\n", SOON)?;
        let count = said.split(' ').next().and_then(|word| word.parse::<u32>().ok());
        check(count >= Some(least), || format!("not {least} domains, but: {said}"))
    });
    let machine = Machine::new(Loader::Direct).cpus(cpus).cpu(cpu.model()).memory_mib(memory_mib);
    let mut plan = Plan::new(
        format!("crowd_cpus{cpus}_mem{memory_mib}M{}", cpu.suffix()),
        lab.boots_manifest(CROWD, machine),
        Ending::Killed,
        vec![exercise],
    );
    (plan.weight, plan.ready_limit) = (cpus as usize, None);
    plan
}

/// The servers of the test system, with a view for each three of them.
fn servers(lab: &Arc<Lab>) -> Plan {
    let exercises =
        vec![Exercise::new("who_calls_whom_is_in_one_view", who_calls_whom), scenarios::audit_at_the_end()];
    let machine = Machine::new(Loader::Direct).cmdline(format!("views={ROOM}"));
    Plan::new("views_of_3", lab.boots(machine), Ending::Closing, exercises)
}

/// Any two servers are in one view exactly if the manifest's calls put them there.
fn who_calls_whom(running: &mut Running) -> Result<(), Failure> {
    let workspace = Workspace::find().map_err(|error| Failure::Wrong(format!("{error:#}")))?;
    let manifest = manifest::load(&workspace.root().join(MANIFEST));
    let manifest = manifest.map_err(|mistake| Failure::Wrong(mistake.to_string()))?;
    let planned = placement::views(&manifest, ROOM);
    check(planned.iter().max() >= Some(&1), || format!("one view for all: {planned:?}"))?;
    let begin = Instant::now();
    let domains = loop {
        let domains = live_domains(running)?;
        let runs = |name: &str| domains.iter().any(|domain| domain.name == name);
        if manifest.servers.iter().all(|server| runs(&server.name)) || begin.elapsed() > STARTS {
            break domains;
        }
    };
    let view = |name: &str| domains.iter().find(|domain| domain.name == name).map(|domain| domain.view);
    for (n, one) in manifest.servers.iter().enumerate() {
        check(view(&one.name).is_some(), || format!("{} does not run", one.name))?;
        for (m, other) in manifest.servers.iter().enumerate() {
            let together = view(&one.name) == view(&other.name);
            check(together == (planned[n] == planned[m]), || {
                format!("{} and {}: {planned:?}, and in fact {domains:#?}", one.name, other.name)
            })?;
        }
    }
    Ok(())
}
