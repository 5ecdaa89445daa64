//! Breaks a copy of the tree with each mutant of `tests/mutants/`, and looks whether its tests see it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use image::workspace::Workspace;
use libpks::proto::adversary::elsewhere::ATTACKS;
use tests::mutants::judge::Judge;
use tests::mutants::test_name::TestName;
use tests::mutants::{self, Mutant, runner};

#[derive(Parser)]
#[command(about, max_term_width = 100)]
struct Options {
    /// Only mutants whose names contain one of these.
    filters: Vec<String>,
    /// Names must be equal instead.
    #[arg(long)]
    exact: bool,
    /// List them and do nothing.
    #[arg(long)]
    list: bool,
    /// Only look whether the tests that they name are there.
    #[arg(long)]
    check: bool,
    /// Do not run the tests on the sound copy first: for when that has just been done.
    #[arg(long)]
    trust_tests: bool,
}

impl Options {
    fn chooses(&self, mutant: &Mutant) -> bool {
        let fits = |filter: &String| match self.exact {
            true => mutant.name == *filter,
            false => mutant.name.contains(filter.as_str()),
        };
        self.filters.is_empty() || self.filters.iter().any(fits)
    }
}

fn main() -> ExitCode {
    match perform(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(options: &Options) -> Result<bool> {
    let workspace = Workspace::find()?;
    let mut chosen = mutants::all(workspace.root())?;
    chosen.retain(|mutant| options.chooses(mutant));
    ensure!(!chosen.is_empty(), "no mutant has such a name");
    if options.list {
        chosen.iter().for_each(|mutant| println!("{}: {}", mutant.name, mutant.about));
        return Ok(true);
    }
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).context("cannot watch for signals")?;
    }
    let judge = Judge::new(workspace, told_to_end)?;
    if options.check {
        // The page docs/attacks.md names tests too.
        let attacks =
            ATTACKS.iter().map(|attack| attack.test.parse()).collect::<Result<Vec<TestName>, _>>()?;
        let named = chosen.into_iter().flat_map(|mutant| mutant.caught_by);
        let missing = judge.missing(named.chain(attacks))?;
        missing.iter().for_each(|name| println!("there is no test {name}"));
        return Ok(missing.is_empty());
    }
    let unsound = if options.trust_tests { BTreeMap::new() } else { runner::unsound(&judge, &chosen)? };
    for (name, why) in &unsound {
        println!("{name} fails on the sound tree: {why}");
    }
    // For a single one a second copy would only have to be built.
    let colleague = if chosen.len() > 1 { Some(judge.colleague()?) } else { None };
    let judges: Vec<Judge> = [Some(judge), colleague].into_iter().flatten().collect();
    Ok(runner::run(&judges, &chosen, &unsound)?.is_good())
}
