//! The matrix: every scenario on every kind of machine.

use std::sync::Arc;
use std::time::Duration;

use image::limine::Limine;
use image::qemu::{Chipset, Firmware, Loader, Machine, Paging};
use tests::cpu::Cpu;
use tests::matrix::Configuration;
use tests::plan::{Ending, Exercise, Plan};

use Cpu::{NoKeys, Pks, Pku, Qemu64};
use Loader::{Direct, Limine as LimineBios, LimineUefi};
use Part::{Full, Slice};
use Views::{Apart, Together};

use crate::lab::Lab;
use crate::scenarios;

/// What a boot may take with UEFI firmware, which is slow under emulation.
const READY_UEFI: Duration = Duration::from_secs(180);

/// Which run a configuration belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Every run.
    Slice,
    /// The full one only.
    Full,
}

/// Where domains are that may be in any view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Views {
    /// In one, as long as there is room.
    Together,
    /// Each in its own.
    Apart,
}

/// One configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row(Part, Loader, Chipset, u8, u32, u64, Cpu, Views);

const Q35: Chipset = Chipset::Q35;
const PC: Chipset = Chipset::I440Fx;

/// In whose run, loader, machine type, page-table levels, CPUs, memory in MiB, CPU model, views.
///
/// The 36 of {loader} x {levels} x {1, 4 CPUs} x {PKS, PKU, no keys} on Q35, then what else there is. In the slice each value
/// meets each other value, also when the rows of Limine cannot run.
const ROWS: [Row; 48] = [
    Row(Slice, Direct, Q35, 4, 1, 128, Pks, Together),
    Row(Slice, Direct, Q35, 5, 1, 4096, Pks, Together),
    Row(Slice, Direct, Q35, 4, 4, 4096, Pks, Together),
    Row(Full, Direct, Q35, 5, 4, 4096, Pks, Together),
    Row(Full, Direct, Q35, 4, 1, 96, NoKeys, Together),
    Row(Full, Direct, Q35, 5, 1, 4096, NoKeys, Together),
    Row(Full, Direct, Q35, 4, 4, 4096, NoKeys, Together),
    Row(Slice, Direct, Q35, 5, 4, 128, NoKeys, Together),
    Row(Full, LimineBios, Q35, 4, 1, 96, Pks, Together),
    Row(Slice, LimineBios, Q35, 5, 1, 128, Pks, Together),
    Row(Full, LimineBios, Q35, 4, 4, 128, Pks, Together),
    Row(Full, LimineBios, Q35, 5, 4, 4096, Pks, Together),
    Row(Full, LimineBios, Q35, 4, 1, 4096, NoKeys, Together),
    Row(Full, LimineBios, Q35, 5, 1, 96, NoKeys, Together),
    Row(Slice, LimineBios, Q35, 4, 4, 128, NoKeys, Together),
    Row(Full, LimineBios, Q35, 5, 4, 128, NoKeys, Together),
    Row(Full, LimineUefi, Q35, 4, 1, 128, Pks, Together),
    Row(Full, LimineUefi, Q35, 5, 1, 4096, Pks, Together),
    Row(Full, LimineUefi, Q35, 4, 4, 128, Pks, Together),
    Row(Slice, LimineUefi, Q35, 5, 4, 4096, Pks, Together),
    Row(Slice, LimineUefi, Q35, 4, 1, 128, NoKeys, Together),
    Row(Full, LimineUefi, Q35, 5, 1, 128, NoKeys, Together),
    Row(Full, LimineUefi, Q35, 4, 4, 4096, NoKeys, Together),
    Row(Full, LimineUefi, Q35, 5, 4, 128, NoKeys, Together),
    Row(Slice, Direct, Q35, 4, 1, 128, Pku, Together),
    Row(Full, Direct, Q35, 5, 1, 4096, Pku, Together),
    Row(Full, Direct, Q35, 4, 4, 4096, Pku, Together),
    Row(Slice, Direct, Q35, 5, 4, 96, Pku, Together),
    Row(Full, LimineBios, Q35, 4, 1, 128, Pku, Together),
    Row(Full, LimineBios, Q35, 5, 1, 96, Pku, Together),
    Row(Full, LimineBios, Q35, 4, 4, 4096, Pku, Together),
    Row(Slice, LimineBios, Q35, 5, 4, 128, Pku, Together),
    Row(Slice, LimineUefi, Q35, 4, 1, 4096, Pku, Together),
    Row(Full, LimineUefi, Q35, 5, 1, 128, Pku, Together),
    Row(Full, LimineUefi, Q35, 4, 4, 128, Pku, Together),
    Row(Full, LimineUefi, Q35, 5, 4, 128, Pku, Together),
    Row(Slice, Direct, Q35, 4, 1, 128, Qemu64, Together),
    Row(Full, Direct, Q35, 5, 4, 128, Pks, Together),
    Row(Full, Direct, Q35, 5, 2, 96, Pks, Together),
    Row(Full, Direct, Q35, 4, 8, 128, Pks, Together),
    Row(Full, Direct, PC, 4, 2, 4096, Pks, Together),
    Row(Full, LimineBios, PC, 5, 2, 128, Pks, Together),
    Row(Slice, Direct, Q35, 4, 1, 128, Pks, Apart),
    Row(Slice, Direct, Q35, 5, 4, 128, Pks, Apart),
    Row(Full, Direct, Q35, 4, 4, 4096, Pku, Apart),
    Row(Full, LimineBios, Q35, 4, 2, 128, Pks, Apart),
    Row(Slice, Direct, Q35, 4, 1, 128, NoKeys, Apart),
    Row(Full, Direct, Q35, 5, 4, 128, NoKeys, Apart),
];

impl Row {
    fn configuration(self) -> Configuration {
        let Self(_, loader, chipset, levels, cpus, memory_mib, cpu, views) = self;
        let memory = match memory_mib {
            4096 => "4G".to_owned(),
            mib => format!("{mib}M"),
        };
        let (loader, loader_title) = match loader {
            Direct => ("", "direct"),
            LimineBios => ("limine_bios_", "Limine BIOS"),
            LimineUefi => ("limine_uefi_", "Limine UEFI"),
        };
        let (chipset, chipset_title) = match chipset {
            Chipset::Q35 => ("", ""),
            Chipset::I440Fx => ("pc_", ", pc"),
        };
        let views_suffix = if views == Apart { "_apart" } else { "" };
        Configuration {
            name: format!(
                "{loader}{chipset}cpus{cpus}_paging{levels}_mem{memory}{}{views_suffix}",
                cpu.suffix()
            ),
            loader: format!("{loader_title}{chipset_title}"),
            levels,
            cpus,
            memory_mib,
            isolation: cpu.isolation(),
            cpu: cpu.model().to_owned(),
            apart: views == Apart,
        }
    }
}

/// What is run, and how many configurations are left for the full matrix.
pub(crate) fn plans(lab: &Arc<Lab>, part: Part) -> (Vec<(Configuration, Plan)>, usize) {
    let chosen: Vec<_> = ROWS.iter().filter(|row| part == Full || row.0 == Slice).collect();
    let left_out = ROWS.len() - chosen.len();
    (chosen.into_iter().map(|row| (row.configuration(), plan(lab, *row))).collect(), left_out)
}

fn plan(lab: &Arc<Lab>, row: Row) -> Plan {
    let Row(_, loader, chipset, levels, cpus, memory_mib, _, _) = row;
    let Configuration { name, isolation, cpu, apart, .. } = row.configuration();
    let paging = if levels == 5 { Paging::Five } else { Paging::Four };
    let mut machine =
        Machine::new(loader).chipset(chipset).cpus(cpus).paging(paging).memory_mib(memory_mib).cpu(cpu);
    if apart {
        machine = machine.cmdline("views=apart");
    }
    let mut exercises: Vec<Exercise> =
        vec![scenarios::machine_is(cpus, levels, memory_mib, isolation), scenarios::lists_scenarios()];
    exercises.extend(scenarios::all());
    exercises.extend([scenarios::unknown_scenario(), scenarios::garbage(), scenarios::audit_at_the_end()]);
    let mut plan = Plan::new(name, lab.boots(machine), Ending::Closing, exercises);
    plan.weight = cpus as usize;
    plan.ignored = missing(loader);
    if loader == LimineUefi {
        plan.ready_limit = Some(READY_UEFI);
    }
    plan
}

/// What this host lacks for a loader.
fn missing(loader: Loader) -> Option<String> {
    if loader == Direct {
        return None;
    }
    if Limine::find().is_err() {
        return Some("no Limine here; LIMINE_DIR can name its binaries".into());
    }
    let no_firmware = loader == LimineUefi && Firmware::installed().is_none();
    no_firmware.then(|| "no UEFI firmware here (Debian package ovmf)".into())
}

/// Whether the table has what it says: all 36, and in the slice each value with each other one, also without Limine.
///
/// # Errors
/// What is missing.
pub(crate) fn table_is_complete() -> Result<(), String> {
    let (loaders, levels, cpus, keys) = ([Direct, LimineBios, LimineUefi], [4, 5], [1, 4], Cpu::KINDS);
    let has = |find: &dyn Fn(&Row) -> bool, what: String| match ROWS.iter().any(find) {
        true => Ok(()),
        false => Err(format!("no row for {what}")),
    };
    for loader in loaders {
        for (level, cpu, keys) in product(levels, cpus, keys) {
            let same = |r: &Row| (r.1, r.3, r.4, r.6) == (loader, level, cpu, keys);
            has(&same, format!("{loader}, {level} levels, {cpu} CPUs, {keys:?}"))?;
            // Pairs within the slice; with the loader among the values, and within the direct loader's rows.
            let slice = |r: &Row, a: bool, b: bool| r.0 == Slice && a && b;
            has(&|r| slice(r, r.1 == loader, r.3 == level), format!("{loader} with {level} in the slice"))?;
            has(&|r| slice(r, r.1 == loader, r.4 == cpu), format!("{loader} with {cpu} CPUs in the slice"))?;
            has(
                &|r| slice(r, r.1 == loader, r.6.isolation() == keys.isolation()),
                format!("{loader}, {keys:?} in the slice"),
            )?;
            let direct = |r: &Row, a: bool, b: bool| slice(r, a, b) && r.1 == Direct;
            has(&|r| direct(r, r.3 == level, r.4 == cpu), format!("{level} with {cpu} CPUs, direct"))?;
            has(
                &|r| direct(r, r.3 == level, r.6.isolation() == keys.isolation()),
                format!("{level}, {keys:?}, direct"),
            )?;
            has(
                &|r| direct(r, r.4 == cpu, r.6.isolation() == keys.isolation()),
                format!("{cpu} CPUs, {keys:?}, direct"),
            )?;
        }
    }
    for memory in [96, 128, 4096] {
        has(&|r| r.5 == memory, format!("{memory} MiB"))?;
    }
    for more in [2, 8] {
        has(&|r| r.4 == more, format!("{more} CPUs"))?;
    }
    let mut names: Vec<_> = ROWS.iter().map(|row| row.configuration().name).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{} is there twice", pair[0])),
        None => Ok(()),
    }
}

fn product<A: Copy, B: Copy, C: Copy>(a: [A; 2], b: [B; 2], c: [C; 3]) -> impl Iterator<Item = (A, B, C)> {
    a.into_iter().flat_map(move |a| b.into_iter().flat_map(move |b| c.into_iter().map(move |c| (a, b, c))))
}
