//! Something is taken away, or ended, under a thread that uses it.

use anyhow::Result;

use crate::drive::drive;
use crate::track::Race;

/// A race in which the owner must wait for whoever runs a domain.
const fn race(scenario: &'static str, thin: usize) -> Race {
    Race { scenario, must_wait: true, passes_waiting: true, sparse: 200, thin, taken: true, open_keys: 2 }
}

#[test]
fn revoke_under_a_running_thread() -> Result<()> {
    let narrow = Race { taken: false, open_keys: 3, ..race("race_narrow", 12) };
    drive(&[race("race_revoke", 2), narrow])
}

#[test]
fn rights_keys_and_pages_go_under_a_running_thread() -> Result<()> {
    let rekey = Race { taken: false, open_keys: 3, ..race("race_rekey", 12) };
    drive(&[race("race_close_for_all", 12), race("race_destroy", 12), race("race_key_reuse", 12), rekey])
}

#[test]
fn running_threads_end_or_move() -> Result<()> {
    let ends = Race { passes_waiting: false, ..race("race_kill_domain", 24) };
    drive(&[race("race_kill_thread", 12), ends, race("race_migrate", 12)])
}
