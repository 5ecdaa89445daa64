//! P23: random steps against the reference model; `servers/stress` has the run itself and goes on for longer.

use libpks::proto::pks_test::checks::{Checks, Run, Stop};
use libpks::proto::pks_test::{SERVER, Seen};
use libpks::proto::stress::Session;
use libpks::rt::text::cut;

use crate::bench::Tools;

/// The same in every boot.
const SESSION: Session = Session { seed: 0x23, steps: 200, workers: 2, keys: 3 };

pub(super) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let Tools { self_test, keys, inspect, nursery, .. } = *tools;
    let needed = stress::Tools { self_test, keys, inspect, nursery };
    let (tally, outcome) = stress::run(&needed, SERVER, &SESSION);
    if let Err(failure) = outcome {
        let (step, words) = (failure.step, failure.words);
        return Err(Stop::failed(format_args!("{SESSION}, step {step}: {words}")));
    }
    checks.count(u32::try_from(tally.checks).unwrap_or(u32::MAX));
    checks.that(tally.faults > 0 && tally.refused > 0, format_args!("nothing was forbidden: {tally}"))?;
    Ok(cut(format_args!("{SESSION}: {tally}")))
}
