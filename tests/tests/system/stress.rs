//! Random steps against the reference model, on all CPUs: with seeds that are always the same, and, where all
//! configurations are run, with new ones.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine, Paging};
use libpks::proto::stress::Tally;
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};
use tests::stress;

use crate::lab::Lab;

/// Seeds that are always the same. The second leaves regions that nobody holds, and accesses them: the page tables show
/// such a region to nobody, and the report names it as there all the same.
const FIXED: [u64; 2] = [0x506f_7274, 0x947f_99d7_8c00];
/// Where the further seeds begin, unless all configurations are run: what fails here, fails again.
const SLICE: u64 = 0x736c_6963_6500;
/// How long the sessions with further seeds go on, by CPUs.
const TIMES: [(u32, Duration); 2] = [(4, Duration::from_secs(40)), (1, Duration::from_secs(20))];

/// The boots.
pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let all = |cpu| TIMES.iter().map(move |&(cpus, time)| plan(lab, cpus, cpu, time, full));
    let mut plans: Vec<_> = Cpu::kinds(full).iter().flat_map(|&cpu| all(cpu)).collect();
    if !full {
        plans.extend(TIMES.last().map(|&(cpus, time)| plan(lab, cpus, Cpu::NoKeys, time, full)));
    }
    plans
}

fn plan(lab: &Arc<Lab>, cpus: u32, cpu: Cpu, time: Duration, full: bool) -> Plan {
    let machine =
        Machine::new(Loader::Direct).cpus(cpus).cpu(cpu.model()).paging(Paging::Four).memory_mib(128);
    // Each leaves the servers stopped, so both give a seed the same keys, alone or after the other.
    let fixed = Exercise::new("fixed_seed", |running| {
        stress::free_keys(running)?;
        FIXED.iter().try_for_each(|&seed| run(running, seed, Duration::ZERO).map(drop))
    });
    let more = Exercise::new("more_seeds", move |running| {
        stress::free_keys(running)?;
        let first =
            stress::seed_asked_for()?.unwrap_or_else(|| if full { stress::fresh_seed() } else { SLICE });
        let tally = run(running, first, time)?;
        check(tally.faults > 0 && tally.refused > 0 && tally.spins > 0, || format!("idle: {tally}"))
    });
    let name = format!("stress_cpus{cpus}{}", cpu.suffix());
    let mut plan = Plan::new(name, lab.boots(machine), Ending::Closing, vec![fixed, more]);
    plan.weight = cpus as usize;
    plan
}

/// Runs sessions and prints what seeds they had.
fn run(running: &mut Running, seed: u64, time: Duration) -> Result<Tally, Failure> {
    let mut count = 0;
    let tally = stress::sessions(running, seed, time, |_, _| count += 1)?;
    println!("stress: seeds {seed:#x} and {} more: {tally}", count - 1);
    Ok(tally)
}
