//! The matrix: every scenario on every kind of machine.

use std::sync::Arc;
use std::time::Duration;

use image::limine::Limine;
use image::qemu::{Firmware, Loader, Machine, Paging};
use libpks::abi::inspect::Isolation;
use tests::plan::{Ending, Exercise, Plan};

use crate::lab::Lab;
use crate::scenarios;

/// What a boot may take with UEFI firmware, which is slow under emulation.
const READY_UEFI: Duration = Duration::from_secs(90);

/// CPUs, page-table levels and memory in MiB: every value with every other value, the least machine and the most.
const MACHINES: [(u32, u8, u64); 5] = [(4, 5, 4096), (4, 4, 4096), (4, 5, 128), (1, 5, 4096), (1, 4, 128)];

/// All machines on which the whole suite of scenarios runs.
pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (cpus, levels, memory_mib) in MACHINES {
        let paging = if levels == 5 { Paging::Five } else { Paging::Four };
        let machine = Machine::new(Loader::Direct).cpus(cpus).paging(paging).memory_mib(memory_mib);
        let memory = if memory_mib == 4096 { "4G" } else { "128M" };
        let name = format!("cpus{cpus}_paging{levels}_mem{memory}");
        plans.push(plan(lab, &name, machine, levels, Isolation::Pks));
    }
    let without = Machine::new(Loader::Direct).cpus(2).cpu("qemu64");
    plans.push(plan(lab, "no_pks", without, 4, Isolation::None));
    plans.push(limine(lab, "limine_bios", Loader::Limine));
    plans.push(limine(lab, "limine_uefi", Loader::LimineUefi));
    plans
}

fn plan(lab: &Arc<Lab>, name: &str, machine: Machine, levels: u8, isolation: Isolation) -> Plan {
    let (cpus, memory_mib) = (machine.cpus, machine.memory_mib);
    let mut exercises: Vec<Exercise> =
        vec![scenarios::machine_is(cpus, levels, memory_mib, isolation), scenarios::lists_scenarios()];
    exercises.extend(scenarios::all(isolation));
    exercises.extend([scenarios::unknown_scenario(), scenarios::garbage()]);
    let mut plan = Plan::new(name, lab.boots(machine), Ending::Closing, exercises);
    plan.weight = cpus as usize;
    plan
}

fn limine(lab: &Arc<Lab>, name: &str, loader: Loader) -> Plan {
    let machine = Machine::new(loader).cpus(2).paging(Paging::Five);
    let mut plan = plan(lab, name, machine, 5, Isolation::Pks);
    let mut missing =
        Limine::find().err().map(|_| "no Limine here; LIMINE_DIR can name its binaries".to_owned());
    if loader == Loader::LimineUefi {
        plan.ready_limit = Some(READY_UEFI);
        if Firmware::installed().is_none() {
            missing = missing.or_else(|| Some("no UEFI firmware here (Debian package ovmf)".into()));
        }
    }
    plan.ignored = missing;
    plan
}
