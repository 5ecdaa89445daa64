//! The reference model of the stress run against the books of the kernel in miniature: long random sequences of the very
//! steps that are run in the guest.

mod machine;

use fastrand::Rng;
use libpks::abi::Error;
use libpks::cap::Progress;
use libpks::model::generator::{LIMITS, next};
use libpks::model::{Model, Step};
use machine::Machine;
use proptest::prelude::*;

const STEPS: u32 = if cfg!(miri) { 100 } else { 1500 };

/// A step with its prediction: true if both sides agree that it was done.
fn agree(outcome: Result<(), Error>, errors: &[Error]) -> bool {
    match outcome {
        Ok(()) => assert_eq!(errors, []),
        Err(error) => assert!(errors.contains(&error), "{error:?}, expected {errors:?}"),
    }
    outcome.is_ok()
}

fn lend(machine: &mut Machine, model: &mut Model, step: &Step) -> Model {
    let Step::Lend { cap, to, read_only, access, global } = *step else { unreachable!() };
    let loan = machine.lend(cap, to, read_only);
    if !agree(loan.map(drop), &model.errors(step)) {
        return model.clone();
    }
    let lent = model.lend(cap, to, read_only);
    let opened = machine.open(to, lent, access);
    if agree(opened.map(drop), &model.borrower_errors(lent, access)) {
        model.regions[model.caps[lent].region].closed = false;
        if global && let Ok(opening) = opened {
            machine.globals[to].retain(|other| other.region != opening.region);
            machine.globals[to].push(opening);
            model.commit(&Step::Global { cap: lent, access });
        }
    }
    machine.compare(model);
    let before = model.clone();
    let mut removed = Vec::new();
    loop {
        let ended = machine.caps.end_loan_step(loan.unwrap(), 2, |removal| {
            removed.push((removal.owner, *removal.capability));
        });
        machine.look_after(&removed);
        removed.clear();
        if ended == Progress::Done {
            break;
        }
    }
    model.end_loan(lent);
    before
}

fn session(seed: u64, workers: usize, spare: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut budgets = rng.fork();
    let mut machine = Machine::new(workers + 1, spare);
    let mut model = Model::new(workers + 1, spare + workers);
    for number in 0..STEPS {
        let step = next(&mut rng, &model, &LIMITS);
        let before = if let Step::Lend { .. } = step {
            lend(&mut machine, &mut model, &step)
        } else {
            let before = model.clone();
            let errors = model.errors(&step);
            if agree(machine.run(&model, &step, &mut budgets), &errors) {
                model.commit(&step);
            }
            before
        };
        let closed: Vec<bool> = (0..model.regions.len()).map(|region| machine.is_closed(region)).collect();
        let observed = model.observe_closed(&before, &step, &closed);
        assert_eq!(observed, Ok(()), "seed {seed:#x}, step {number}: {step:?}, {closed:?}");
        machine.compare(&model);
        machine.nobody_exceeds_what_is_held();
    }
}

proptest! {
    // 96 times 1500 steps.
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 96 }, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn the_books_and_the_model_agree(seed: u64, workers in 1_usize..4, spare in 0_usize..8) {
        session(seed, workers, spare);
    }
}
