//! Rights to memory, and keys.

use libpks::proto::bench::Place;
use libpks::rt::{Error, Region};

use super::Tools;
use crate::table::Table;

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let region = Region::create(4096, None)?;
    table.operation(Place::guard, || region.open_write().map(drop))?;
    table.operation(Place::key, || tools.keys.allocate().map(drop))
}
