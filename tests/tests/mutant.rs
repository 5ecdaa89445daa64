//! The mutants that every run carries out; `just mutants` carries out all.
//!
//! Whether their tests pass on the sound tree is not asked here: they are run beside this one.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::mutants::{self, Mutant};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They share a tree.
    args.test_threads = Some(1);
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let all = match mutants::all(root) {
        Ok(all) => all,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = vec![Trial::test("mutant::named_tests_exist", || run(&["--check"]))];
    let slice = all.into_iter().filter(|mutant| mutant.slice);
    trials.extend(
        slice.map(|mutant| Trial::test(format!("mutant::{}", mutant.name), move || carry_out(&mutant))),
    );
    libtest_mimic::run(&args, trials).exit_code()
}

fn carry_out(mutant: &Mutant) -> Result<(), Failed> {
    run(&["--trust-tests", "--exact", &mutant.name])
}

/// Runs the program of `just mutants`.
fn run(arguments: &[&str]) -> Result<(), Failed> {
    let done = Command::new(env!("CARGO_BIN_EXE_mutants")).args(arguments).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(said.concat().into())
}
