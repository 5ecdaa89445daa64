//! Which servers are in one view, where there is not room for all of them: those that call each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::manifest;
use image::qemu::{Loader, Machine};
use image::workspace::Workspace;
use libpks::abi::inspect::Isolation;
use libpks::placement;
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};

use crate::lab::{Lab, MANIFEST};
use crate::scenarios::{self, live_domains};

/// Servers in one view.
const ROOM: usize = 3;
/// What it may take until the last server runs.
const STARTS: Duration = Duration::from_secs(60);

pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    let exercises = vec![
        Exercise::new("who_calls_whom_is_in_one_view", who_calls_whom),
        scenarios::audit_at_the_end(Isolation::Pks),
    ];
    let machine = Machine::new(Loader::Direct).cmdline(format!("views={ROOM}"));
    vec![Plan::new("views_of_3", lab.boots(machine), Ending::Closing, exercises)]
}

/// Any two servers are in one view exactly if the manifest's calls put them there.
fn who_calls_whom(running: &mut Running) -> Result<(), Failure> {
    let workspace = Workspace::find().map_err(|error| Failure::Wrong(format!("{error:#}")))?;
    let manifest = manifest::load(&workspace.root().join(MANIFEST));
    let manifest = manifest.map_err(|mistake| Failure::Wrong(mistake.to_string()))?;
    let planned = placement::views(&manifest, ROOM);
    check(planned.iter().max() >= Some(&1), || format!("one view for all: {planned:?}"))?;
    let begin = Instant::now();
    let domains = loop {
        let domains = live_domains(running)?;
        let runs = |name: &str| domains.iter().any(|domain| domain.name == name);
        if manifest.servers.iter().all(|server| runs(&server.name)) || begin.elapsed() > STARTS {
            break domains;
        }
    };
    let view = |name: &str| domains.iter().find(|domain| domain.name == name).map(|domain| domain.view);
    for (n, one) in manifest.servers.iter().enumerate() {
        check(view(&one.name).is_some(), || format!("{} does not run", one.name))?;
        for (m, other) in manifest.servers.iter().enumerate() {
            let together = view(&one.name) == view(&other.name);
            check(together == (planned[n] == planned[m]), || {
                format!("{} and {}: {planned:?}, and in fact {domains:#?}", one.name, other.name)
            })?;
        }
    }
    Ok(())
}
