//! The system tests: each boots Portcullis in QEMU, or shares a boot with others.
//!
//! Names are `boot::test`. A filter chooses among them (`cargo test -p tests -- S4`), and only what was chosen is run.
//! With `PORTCULLIS_FULL=1` all configurations of the matrix are there, otherwise a slice of them.
#![forbid(unsafe_code)]

mod crowd;
mod dialogues;
mod endurance;
mod fuzz;
mod hostile;
mod lab;
mod machines;
mod results;
mod scenarios;
mod stress;
mod supervision;
mod translations;

use std::cmp::Reverse;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use lab::Lab;
use libtest_mimic::{Arguments, Completion, FormatSetting, Trial};
use tests::board::{Board, Job};
use tests::mutants::judge::NAMES_VARIABLE;
use tests::plan::{Plan, is_full};

use machines::Part;
use results::{Pending, Results};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    let lab = Arc::new(Lab::default());
    let part = if is_full() { Part::Full } else { Part::Slice };
    let (rows, left_out) = machines::plans(&lab, part);
    let (configurations, mut plans): (Vec<_>, Vec<Plan>) = rows.into_iter().unzip();
    plans.extend(dialogues::plans(&lab));
    plans.extend(crowd::plans(&lab, matches!(part, Part::Full)));
    plans.extend(hostile::plans(&lab, matches!(part, Part::Full)));
    plans.extend(endurance::plans(&lab, matches!(part, Part::Full)));
    plans.extend(supervision::plans(&lab, matches!(part, Part::Full)));
    plans.extend(stress::plans(&lab, matches!(part, Part::Full)));
    plans.extend(fuzz::plans(matches!(part, Part::Full)));
    plans.extend(translations::plans(&lab, matches!(part, Part::Full)));
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let cores = args.test_threads.unwrap_or(cores);
    // The board runs things side by side, the heaviest first. The trials only wait for it: in one thread and in the
    // same order, they tell what it does.
    args.test_threads = Some(1);
    plans.sort_by_key(|plan| Reverse(plan.cores(cores)));
    let board = Arc::new(OnceLock::new());
    let pending = Pending::default();
    let mut trials = vec![Trial::test("matrix::table_is_complete", || Ok(machines::table_is_complete()?))];
    trials.extend(plans.iter().flat_map(|plan| self::trials(plan, &board)));
    trials.push(tell(&args, &board, &pending));
    if let Ok(names) = std::env::var(NAMES_VARIABLE) {
        trials.retain(|trial| names.lines().any(|name| name == trial.name()));
    }
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
    if !args.list {
        let results = Results::new(configurations, &plans, &wanted, left_out);
        *pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(results);
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
                Ok(board.wait(&plan_name, &exercise_name).map(|_| Completion::Completed)?)
            }
            (None, None) => Err("the boots were not started".into()),
        })
    };
    plan.exercises.iter().map(|exercise| trial(&exercise.name)).collect()
}

/// The last trial prints the matrix. For a program that reads the trials it goes to standard error.
fn tell(args: &Arguments, board: &Arc<OnceLock<Arc<Board>>>, pending: &Pending) -> Trial {
    let (board, pending) = (Arc::clone(board), Arc::clone(pending));
    let for_program = args.format == Some(FormatSetting::Json);
    Trial::test("matrix::results", move || {
        let results = pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let (Some(results), Some(board)) = (results, board.get()) else {
            return Err("the boots were not started".into());
        };
        Ok(match for_program {
            true => results.tell(board, &mut std::io::stderr().lock()),
            false => results.tell(board, &mut std::io::stdout().lock()),
        }?)
    })
}
