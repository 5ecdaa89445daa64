//! Who is in the kernel, and what the others must forget.

use super::machine::{Cpu, Machine};
use loom::sync::Arc;
use loom::thread;

/// Runs `first_fn` on CPU 0 and `other_fn` on each of the others, which have all left the kernel.
fn model<const CPUS: usize, const RANGES: usize>(
    first_fn: fn(&Machine<CPUS, RANGES>, &mut Cpu),
    other_fn: fn(&Machine<CPUS, RANGES>, &mut Cpu),
) {
    loom::model(move || {
        let machine = Arc::new(Machine::new());
        let mut cpus: Vec<Cpu> = (0..CPUS).map(|number| machine.start(number)).collect();
        let others: Vec<_> = cpus
            .drain(1..)
            .map(|mut cpu| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || other_fn(&machine, &mut cpu))
            })
            .collect();
        first_fn(&machine, &mut cpus[0]);
        others.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// An event that changes nothing, between two moments of the domain.
fn event<const CPUS: usize, const RANGES: usize>(machine: &Machine<CPUS, RANGES>, cpu: &mut Cpu) {
    machine.run_domain(cpu);
    machine.in_kernel(cpu, |_, _| ());
    machine.run_domain(cpu);
}

/// Runs the domain until CPU 0 has done its work.
fn run<const CPUS: usize>(machine: &Machine<CPUS, 1>, cpu: &mut Cpu) {
    machine.run_until_finished(cpu, 1);
}

fn move_page<const CPUS: usize>(machine: &Machine<CPUS, 1>, cpu: &mut Cpu) {
    machine.run_domain(cpu);
    machine.in_kernel(cpu, |cpu, _| machine.move_page(cpu));
    machine.finish();
    machine.run_domain(cpu);
}

fn close_page<const CPUS: usize>(machine: &Machine<CPUS, 1>, cpu: &mut Cpu) {
    machine.run_domain(cpu);
    machine.in_kernel(cpu, |cpu, books| machine.close_page(cpu, books));
    machine.finish();
    machine.run_domain(cpu);
}

/// Events of its own first, then whatever it is kicked for.
fn event_then_run<const CPUS: usize>(machine: &Machine<CPUS, 1>, cpu: &mut Cpu) {
    event(machine, cpu);
    machine.run_until_finished(cpu, 1);
}

#[test]
fn three_cpus_take_turns_in_the_kernel() {
    model::<3, 1>(event, event);
}

#[test]
fn no_domain_runs_with_the_old_translation_when_a_page_has_moved() {
    model::<2, 1>(move_page, run);
}

#[test]
fn nor_one_that_enters_at_the_same_time_by_itself() {
    model::<2, 1>(move_page, event_then_run);
}

#[test]
fn nor_any_of_two_others() {
    model::<3, 1>(move_page, run);
}

#[test]
fn no_domain_runs_under_the_old_word_when_a_page_is_closed() {
    model::<2, 1>(close_page, run);
}

#[test]
fn nor_one_that_enters_at_that_time_by_itself() {
    model::<2, 1>(close_page, event_then_run);
}

#[test]
fn nor_any_of_two() {
    model::<3, 1>(close_page, run);
}

/// Asks the others to forget two ranges, for which their lists have not room enough at once.
fn ask<const CPUS: usize>(machine: &Machine<CPUS, 1>, cpu: &mut Cpu) {
    machine.in_kernel(cpu, |cpu, books| {
        for page in [0x1000, 0x2000] {
            machine.invalidate(cpu, books, (page, 1));
        }
    });
    machine.finish();
    machine.run_until_finished(cpu, CPUS);
    machine.in_kernel(cpu, |_, _| ());
}

#[test]
fn cpus_that_wait_for_each_other_come_through_and_lose_no_range() {
    model::<2, 1>(ask, ask);
}
