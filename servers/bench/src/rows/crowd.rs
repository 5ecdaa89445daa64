//! What calls and domains cost among few domains and among thousands.

use libpks::proto::bench::Place;
use libpks::rt::domain::Placement;
use libpks::rt::{Error, measure};

use super::Tools;
use super::calls::WORDS;
use crate::crowd::Crowd;
use crate::table::Table;

/// How many domains there are, and the rows of a call, of one into another view, and of a domain more.
const SIZES: [(usize, [Place; 3]); 3] = [
    (16, [Place::call_among_16, Place::across_among_16, Place::domain_among_16]),
    (256, [Place::call_among_256, Place::across_among_256, Place::domain_among_256]),
    (4096, [Place::call_among_4096, Place::across_among_4096, Place::domain_among_4096]),
];

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    // Before the crowd takes all keys of this view.
    let (near, far) = (tools.peer(Placement::Here)?, tools.peer(Placement::Alone)?);
    let mut crowd = Crowd::new()?;
    for (count, [call, across, domain]) in SIZES {
        crowd.grow_to(tools, count)?;
        for (place, peer) in [(call, &near), (across, &far)] {
            let [echo, ..] = &peer.endpoints;
            table.row(place, || measure::call_words(**echo, WORDS).map(Some))?;
        }
        table.row(domain, || {
            let (added, ticks) = measure::around(|| crowd.add(tools, Placement::Anywhere));
            crowd.remove();
            added.map(|()| Some(ticks))
        })?;
    }
    let mut next = 0;
    table.operation(Place::call_each_of_4096, || {
        next = (next + 1) % crowd.len();
        crowd.call(next)
    })
}
