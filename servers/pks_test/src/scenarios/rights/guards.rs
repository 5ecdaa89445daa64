//! P13: guards nest, are dropped in any order and left by early returns, and the word is what the living ones say.
//!
//! After each step the word is compared with what follows from a list of what is open, and the page is accessed. That a
//! guard closes when a panic unwinds is tested on the host: nothing unwinds here.

use libpks::abi::Error;
use libpks::pkey::{Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::region::Access as Opening;
use libpks::rt::text::cut;

use crate::bench::{Bound, Target, Tools};
use crate::scenarios::access::matrix::{MATRIX, Setting, by_thread};
use crate::subject::{Held, open};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Every order in which three guards can be dropped: positions among those that are left.
const ORDERS: [[usize; 3]; 6] = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]];
const KINDS: [Rights; 2] = [Rights::ReadOnly, Rights::ReadWrite];

/// What is open: which of the two pages, with which rights.
type Open = (usize, Rights);

struct Rig<'a> {
    tools: &'a Tools,
    checks: &'a Checks,
    targets: [Target; 2],
    base: Pkrs,
}

impl Rig<'_> {
    /// The word is what these openings say together, and the CPU obeys it.
    fn word_is(&self, living: &[Open], when: core::fmt::Arguments<'_>) -> Run {
        let mut expected = self.base;
        for (number, target) in self.targets.iter().enumerate() {
            let said = living.iter().filter(|(page, _)| *page == number).map(|(_, rights)| *rights).max();
            let rights = said.unwrap_or(Rights::NoAccess);
            expected = expected.with(target.key, rights);
            if rights >= Rights::ReadOnly {
                target.raw.read_u64(0)?;
            }
            if rights == Rights::ReadWrite {
                target.raw.write_u64(0, 1)?;
            }
        }
        self.checks.same(when, self.tools.words(0)?.interrupted, expected)
    }

    fn open(&self, (page, rights): Open) -> Result<Held, Error> {
        open(*self.targets[page].region, rights)
    }
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let _bound = Bound::to(0)?;
    let targets = [Target::new(tools)?, Target::new(tools)?];
    let rig = Rig { tools, checks, targets, base: tools.base_word()? };
    let mut nests = 0;
    for pages in [[0, 0, 0], [0, 1, 0]] {
        for kinds in 0..8_usize {
            let opened = [0, 1, 2].map(|n| (pages[n], KINDS[kinds >> n & 1]));
            for order in ORDERS {
                nest(&rig, opened, order)?;
                nests += 1;
            }
        }
    }
    early_returns(&rig)?;
    with_global_rights(&rig)?;
    by_thread(tools, checks, &rig.targets[0], MATRIX[1], Setting::default())?;
    Ok(cut(format_args!(
        "{nests} nests of three guards, early returns, and rights of all threads beside them"
    )))
}

/// Three guards, dropped in this order.
fn nest(rig: &Rig<'_>, opened: [Open; 3], order: [usize; 3]) -> Run {
    let mut held = heapless::Vec::<(Open, Held), 3>::new();
    let living = |held: &[(Open, Held)]| held.iter().map(|(open, _)| *open).collect::<heapless::Vec<_, 3>>();
    for open in opened {
        let guard = rig.open(open)?;
        let _ = held.push((open, guard));
        rig.word_is(&living(&held), format_args!("{opened:?}, opening {}", held.len()))?;
    }
    for place in order {
        drop(held.remove(place));
        rig.word_is(&living(&held), format_args!("{opened:?} dropped as {order:?}, {} left", held.len()))?;
    }
    Ok(())
}

/// A function that opens both pages and may be left before or after the second.
fn leaves(rig: &Rig<'_>, first: u64, second: u64) -> Result<u64, Error> {
    let one = rig.targets[0].region.open_write()?;
    let read = one.read_u64(first)?;
    let two = rig.targets[1].region.open_read()?;
    Ok(read + two.read_u64(second)?)
}

fn early_returns(rig: &Rig<'_>) -> Run {
    // Misaligned, so refused before anything is accessed.
    for (offsets, expected) in [
        ((1, 0), Err(Error::InvalidArgument)),
        ((0, 1), Err(Error::InvalidArgument)),
        ((0, u64::MAX), Err(Error::InvalidArgument)),
    ] {
        let outer = rig.open((0, Rights::ReadOnly))?;
        let came = leaves(rig, offsets.0, offsets.1);
        rig.checks.same(format_args!("early return at {offsets:?}"), came, expected)?;
        rig.word_is(&[(0, Rights::ReadOnly)], format_args!("after the return at {offsets:?}"))?;
        drop(outer);
        rig.word_is(&[], format_args!("after all"))?;
    }
    rig.checks.that(leaves(rig, 0, 0).is_ok(), format_args!("the function fails where it should not"))?;
    rig.word_is(&[], format_args!("after the function's end"))
}

/// A drop asks the books again: it restores nothing that was remembered. Rights of all threads that come and go
/// between an opening and its drop must be there afterwards, or gone.
fn with_global_rights(rig: &Rig<'_>) -> Run {
    let region = *rig.targets[0].region;
    let global = (0, Rights::ReadOnly);
    let came = (|| -> Run {
        let write = rig.open((0, Rights::ReadWrite))?;
        region.open_global(Opening::ReadOnly)?;
        drop(write);
        rig.word_is(&[global], format_args!("rights of all threads came while a guard lived"))?;
        let write = rig.open((0, Rights::ReadWrite))?;
        let read = rig.open((0, Rights::ReadOnly))?;
        region.open_global(Opening::None)?;
        rig.word_is(&[(0, Rights::ReadWrite)], format_args!("they went while guards lived"))?;
        drop(write);
        rig.word_is(&[(0, Rights::ReadOnly)], format_args!("the writing guard went"))?;
        drop(read);
        rig.word_is(&[], format_args!("all guards went"))
    })();
    region.open_global(Opening::None)?;
    came
}
