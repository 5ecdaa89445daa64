//! The system tests: each boots Portcullis in QEMU, or shares a boot with others.
//!
//! Names are `boot::test`. A filter chooses among them (`cargo test -p tests -- S4`), and only what was chosen is run.
#![forbid(unsafe_code)]

mod dialogues;
mod hostile;
mod lab;
mod machines;
mod scenarios;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use lab::Lab;
use libtest_mimic::{Arguments, Completion, Trial};
use tests::board::{Board, Job};
use tests::plan::Plan;

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let lab = Arc::new(Lab::default());
    let plans: Vec<Plan> =
        [machines::plans(&lab), dialogues::plans(&lab), hostile::plans(&lab)].into_iter().flatten().collect();
    let board = Arc::new(OnceLock::new());
    let trials: Vec<_> = plans.iter().flat_map(|plan| trials(plan, &board)).collect();
    let chosen = |plan: &Plan, exercise: &str| {
        let name = full_name(plan, exercise);
        let trial = trials.iter().find(|trial| trial.name() == name);
        trial.is_some_and(|trial| !args.is_filtered_out(trial) && !args.is_ignored(trial))
    };
    let wanted: Vec<Vec<String>> = plans
        .iter()
        .map(|plan| match plan.ignored {
            Some(_) => Vec::new(),
            None => plan.exercises.iter().map(|e| e.name.clone()).filter(|name| chosen(plan, name)).collect(),
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let cores = args.test_threads.unwrap_or(cores);
    if !args.list {
        let jobs = plans.into_iter().zip(wanted).map(|(plan, wanted)| Job { plan, wanted }).collect();
        board.get_or_init(|| Board::start(jobs, cores));
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn full_name(plan: &Plan, exercise: &str) -> String {
    format!("{}::{exercise}", plan.name)
}

fn trials(plan: &Plan, board: &Arc<OnceLock<Arc<Board>>>) -> Vec<Trial> {
    let trial = |exercise: &str| {
        let (board, ignored) = (Arc::clone(board), plan.ignored.clone());
        let (plan_name, exercise_name) = (plan.name.clone(), exercise.to_owned());
        Trial::ignorable_test(full_name(plan, exercise), move || match (ignored, board.get()) {
            (Some(reason), _) => Ok(Completion::ignored_with(reason)),
            (None, Some(board)) => {
                Ok(board.wait(&plan_name, &exercise_name).map(|()| Completion::Completed)?)
            }
            (None, None) => Err("the boots were not started".into()),
        })
    };
    plan.exercises.iter().map(|exercise| trial(&exercise.name)).collect()
}
