//! Random calls at every entry of the kernel, by domains that are there to die of them.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine, Paging};
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::fuzz::{self, MANIFEST};
use tests::plan::{Ending, Exercise, Plan, Running};
use tests::stress;

use crate::lab::Lab;

/// The seed that is always the same.
const FIXED: u64 = 0x6675_7a7a;
/// Calls with it.
const CALLS: u64 = 20_000;
/// Calls with new seeds where all configurations are run, with keys for supervisor pages; without as many as with the fixed one.
const MANY_CALLS: u64 = 1_000_000;

/// The boots.
pub(crate) fn plans(full: bool) -> Vec<Plan> {
    let lab = Arc::new(Lab::of(MANIFEST));
    let cpus: &[u32] = if full { &[4, 1] } else { &[1] };
    let all = |&cpu| cpus.iter().map(move |&cpus| (cpus, cpu));
    Cpu::kinds(full).iter().flat_map(all).map(|(cpus, cpu)| plan(&lab, cpus, cpu, full)).collect()
}

fn plan(lab: &Arc<Lab>, cpus: u32, cpu: Cpu, full: bool) -> Plan {
    let machine =
        Machine::new(Loader::Direct).cpus(cpus).cpu(cpu.model()).paging(Paging::Four).memory_mib(128);
    let fixed = Exercise::new("fixed_seed", |running| run(running, FIXED, CALLS));
    let more = if full && cpu == Cpu::Pks { MANY_CALLS } else { CALLS };
    let fresh = Exercise::new("fresh_seeds", move |running| run(running, stress::first_seed()?, more));
    // A seed that is wrong fails where it is used.
    let asked = !matches!(stress::seed_asked_for(), Ok(None));
    let exercises = if full || asked { vec![fixed, fresh] } else { vec![fixed] };
    let name = format!("fuzz_cpus{cpus}{}", cpu.suffix());
    let mut plan = Plan::new(name, lab.boots(machine), Ending::Closing, exercises);
    plan.weight = cpus as usize;
    plan
}

/// Makes calls, prints what came of them, and looks whether they got far enough into the kernel to tell anything.
fn run(running: &mut Running, seed: u64, calls: u64) -> Result<(), Failure> {
    let tally = fuzz::sessions(running, seed, calls, Duration::ZERO, |_, _| {})?;
    println!("fuzz: seeds from {seed:#x}: {tally}");
    let deep = u64::from(tally.done()) * 10 > tally.calls && tally.errors() > 12 && tally.faulted > 0;
    check(deep, || format!("too shallow: {tally}"))
}
