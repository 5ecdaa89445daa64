//! Death at a chosen moment, so that tests can see what the next supervisor makes of it. Only who holds the power
//! `self-test` beside `supervise` can choose one.

use libpks::abi::layout::{REGIONS_BASE, REGIONS_BYTES};
use libpks::proto::supervisor::{Death, Moment};
use libpks::rt::sync::Mutex;
use libpks::rt::unguarded::Unguarded;

static CHOSEN: Mutex<Option<(Moment, Death)>> = Mutex::new(None);

/// Chooses the moment.
pub(crate) fn choose(moment: Moment, death: Death) {
    *CHOSEN.lock() = Some((moment, death));
}

/// The moment has come: dies if it was chosen.
pub(crate) fn strike(moment: Moment) {
    let chosen = *CHOSEN.lock();
    if let Some((_, death)) = chosen.filter(|(chosen, _)| *chosen == moment) {
        die(moment, death);
    }
}

fn die(moment: Moment, death: Death) {
    if death == Death::Fault {
        // No region lies at the end of their area.
        let end = REGIONS_BASE + REGIONS_BYTES - 8;
        let _ = Unguarded::in_regions(end, 8).and_then(|nothing| nothing.write_u64(0, 0));
    }
    panic!("death was asked for: {moment:?}");
}
