//! Capabilities derived, deleted, revoked.

use alloc::vec::Vec;

use libpks::proto::bench::Place;
use libpks::rt::{Capability, Error, measure};

use super::{any, derive};
use crate::table::Table;

pub(crate) fn run(table: &mut Table) -> Result<(), Error> {
    let root = any()?;
    table.operation(Place::mint, || derive(*root))?;
    table.row(Place::delete, || {
        let derived = derive(*root)?.keep();
        let (outcome, ticks) = measure::around(|| derived.delete());
        outcome.map(|()| Some(ticks))
    })?;
    for (place, count) in [(Place::revoke_1, 1), (Place::revoke_10, 10), (Place::revoke_1000, 1000)] {
        table.row(place, || {
            let derived: Result<Vec<_>, Error> =
                (0..count).map(|_| derive(*root).map(|one| one.keep())).collect();
            derived?;
            let (outcome, ticks) = measure::around(|| root.revoke());
            outcome.map(|()| Some(ticks))
        })?;
    }
    Ok(())
}
