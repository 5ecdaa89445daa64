//! Random steps against the reference model, on all CPUs: with a seed that is always the same, and with a new one.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine, Paging};
use libpks::proto::stress::Tally;
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};
use tests::stress;

use crate::lab::Lab;

/// The seed that is always the same.
const FIXED: u64 = 0x506f_7274;
/// How long the sessions with new seeds go on, by CPUs.
const TIMES: [(u32, Duration); 2] = [(4, Duration::from_secs(40)), (1, Duration::from_secs(20))];

/// The boots.
pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    TIMES.iter().map(|&(cpus, time)| plan(lab, cpus, time)).collect()
}

fn plan(lab: &Arc<Lab>, cpus: u32, time: Duration) -> Plan {
    let machine = Machine::new(Loader::Direct).cpus(cpus).paging(Paging::Four).memory_mib(128);
    // Each leaves the servers stopped, so both give a seed the same keys, alone or after the other.
    let fixed = Exercise::new("fixed_seed", |running| {
        stress::free_keys(running)?;
        run(running, FIXED, Duration::ZERO).map(drop)
    });
    let fresh = Exercise::new("fresh_seeds", move |running| {
        stress::free_keys(running)?;
        let tally = run(running, stress::first_seed()?, time)?;
        check(tally.faults > 0 && tally.refused > 0 && tally.spins > 0, || format!("idle: {tally}"))
    });
    let mut plan =
        Plan::new(format!("stress_cpus{cpus}"), lab.boots(machine), Ending::Closing, vec![fixed, fresh]);
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
