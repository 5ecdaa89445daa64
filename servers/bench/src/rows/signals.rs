//! Notifications.

use alloc::sync::Arc;

use libpks::proto::bench::{Place, ROWS, WARM_UP};
use libpks::rt::thread::spawn;
use libpks::rt::{Error, Notification, measure};

use super::Tools;
use crate::STACK;
use crate::table::Table;

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let note = Notification::create()?;
    table.operation(Place::signal_poll, || {
        note.signal(1)?;
        note.poll()
    })?;
    wake(tools, table, Arc::new(note))
}

/// The waiter is more urgent, so it runs before the signal returns; it ends the count.
fn wake(tools: &Tools, table: &mut Table, note: Arc<libpks::rt::Owned<Notification>>) -> Result<(), Error> {
    let rounds = ROWS.get(Place::signal_wake as usize).map_or(0, |row| row.rounds + WARM_UP);
    let waited_for = Arc::clone(&note);
    let waiter = spawn(STACK, tools.priority, move || -> Result<(), Error> {
        for _ in 0..rounds {
            waited_for.wait(None)?;
            measure::end();
        }
        Ok(())
    })?;
    table.row(Place::signal_wake, || {
        measure::begin();
        note.signal(1)?;
        Ok(None)
    })?;
    waiter.join(None)?
}
