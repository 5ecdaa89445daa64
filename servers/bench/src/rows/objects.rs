//! Objects made and ended: regions, threads, domains.

use libpks::proto::bench::Place;
use libpks::rt::domain::Placement;
use libpks::rt::thread::spawn;
use libpks::rt::{Error, Notification, Region, measure};

use super::Tools;
use crate::STACK;
use crate::table::Table;

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    table.operation(Place::region, || Region::create(4096, None))?;
    table.operation(Place::thread, || spawn(STACK, tools.priority, || ())?.join(None))?;
    table.operation(Place::domain_create, || tools.domain(Placement::Here))?;
    let here = Notification::create()?;
    table.row(Place::domain_start, || {
        let domain = tools.domain(Placement::Here)?;
        let info = Tools::start_info(*domain, "role=caller", *here)?;
        let (outcome, ticks) = measure::around(|| {
            domain.start(STACK, &info)?;
            here.wait(None)
        });
        outcome.map(|_| Some(ticks))
    })?;
    table.row(Place::domain_stop, || {
        let peer = tools.peer(Placement::Here)?;
        let (outcome, ticks) = measure::around(|| peer.domain.stop());
        outcome.map(|()| Some(ticks))
    })
}
