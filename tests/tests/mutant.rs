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
    let slice = all.into_iter().filter(|mutant| mutant.slice);
    let trials = slice.map(|mutant| Trial::test(format!("mutant::{}", mutant.name), || carry_out(mutant)));
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

fn carry_out(mutant: Mutant) -> Result<(), Failed> {
    let mut runner = Command::new(env!("CARGO_BIN_EXE_mutants"));
    let done = runner.args(["--trust-tests", "--exact", &mutant.name]).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(said.concat().into())
}
