//! Both sides are in the kernel.

use anyhow::Result;

use crate::drive::drive;
use crate::track::Race;

#[test]
fn calls_signals_and_revokes_meet() -> Result<()> {
    let race = |scenario, must_wait| Race {
        scenario,
        must_wait,
        passes_waiting: false,
        sparse: 200,
        thin: 12,
        taken: false,
        open_keys: 16,
    };
    drive(&[race("race_server_dies", true), race("race_two_revokes", false)])
}
