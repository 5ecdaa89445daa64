//! M1: what memory holds when it is given out.

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::{Owned, Region};

use libpks::proto::pks_test::checks::{Checks, Run};

const PAGES: u64 = 8;
/// How often the memory goes back and comes again.
const ROUNDS: u64 = 3;
const WORD: u64 = 8;
/// What is left behind.
const SECRET: u64 = 0x7365_6372_6574_2121;

/// M1: memory is all zeros whenever it is given out, however often it was written and given back. That the same frames
/// come again cannot be seen from here, but there is no reason for the kernel to take others.
pub(super) fn fresh(checks: &Checks) -> Run<Seen> {
    for round in 0..ROUNDS {
        let region = Region::create(PAGES * PAGE, None)?;
        for page in 0..PAGES {
            let dirty = first_that_is_not(&region, page, 0)?;
            checks.same(format_args!("round {round}, page {page}: a word that is not zero"), dirty, None)?;
        }
        leave(&region)?;
        let lost = first_that_is_not(&region, PAGES - 1, SECRET)?;
        checks.same(format_args!("round {round}: a word that was not kept"), lost, None)?;
    }
    Ok(cut(format_args!("{PAGES} pages, written and given back {ROUNDS} times, zeros each time")))
}

/// The first word of a page that is another.
fn first_that_is_not(region: &Owned<Region>, page: u64, expected: u64) -> Result<Option<u64>, Error> {
    let guard = region.open_read()?;
    for offset in (page * PAGE..(page + 1) * PAGE).step_by(WORD as usize) {
        let seen = guard.read_u64(offset)?;
        if seen != expected {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

/// Fills the region.
fn leave(region: &Owned<Region>) -> Result<(), Error> {
    let guard = region.open_write()?;
    (0..PAGES * PAGE).step_by(WORD as usize).try_for_each(|offset| guard.write_u64(offset, SECRET))
}
