//! Runs the rows in their order, and words their ticks.

use alloc::vec::Vec;

use libpks::proto::bench::{Place, ROWS, WARM_UP};
use libpks::rt::log::info;
use libpks::rt::{Error, measure};

use crate::rows::{self, Tools};

/// Runs all rows.
///
/// # Errors
/// What the kernel says to any operation.
pub(crate) fn run(tools: &Tools) -> Result<(), Error> {
    let mut table = Table { next: 0 };
    rows::calls::run(tools, &mut table)?;
    rows::signals::run(tools, &mut table)?;
    rows::rings::run(tools, &mut table)?;
    rows::memory::run(tools, &mut table)?;
    rows::switching::run(tools, &mut table)?;
    rows::capabilities::run(&mut table)?;
    rows::objects::run(tools, &mut table)?;
    rows::crowd::run(tools, &mut table)?;
    measure::done();
    if table.next == ROWS.len() { Ok(()) } else { Err(Error::NotFound) }
}

/// Which row is next.
pub(crate) struct Table {
    next: usize,
}

impl Table {
    /// A row: `round` is called as often as the row says, and gives the ticks that it took between its marks, none where
    /// they cannot be told.
    ///
    /// # Errors
    /// [`Error::WrongState`] if another row is next, and those of `round`.
    pub(crate) fn row(
        &mut self,
        place: Place,
        mut round: impl FnMut() -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        let row = ROWS.get(self.next).filter(|_| place as usize == self.next).ok_or(Error::WrongState)?;
        let mut ticks = Vec::with_capacity(row.rounds as usize);
        for n in 0..row.rounds + WARM_UP {
            if let Some(taken) = round()?
                && n >= WARM_UP
            {
                ticks.push(taken);
            }
        }
        ticks.sort_unstable();
        let middle = ticks.get(ticks.len() / 2).copied().unwrap_or_default();
        match (ticks.first(), ticks.last()) {
            (Some(least), Some(most)) => {
                info!("bench: {:16} {least:>9} {middle:>9} {most:>9} ticks, {} rounds", row.name, row.rounds);
            }
            _ => info!("bench: {:16} {} rounds", row.name, row.rounds),
        }
        self.next += 1;
        measure::next_row();
        Ok(())
    }

    /// A row whose round is one operation.
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub(crate) fn operation<R>(
        &mut self,
        place: Place,
        mut operation: impl FnMut() -> Result<R, Error>,
    ) -> Result<(), Error> {
        self.row(place, || {
            let (outcome, ticks) = measure::around(&mut operation);
            // Dropped behind the mark.
            outcome.map(|_| Some(ticks))
        })
    }
}
