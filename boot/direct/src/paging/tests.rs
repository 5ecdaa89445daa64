//! Tests of the page tables: they are walked as a CPU would.

use super::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

const AT: u64 = 1 << 20;

/// Lets `build` fill tables in as little memory as the loader takes for an image of 16 KiB and
/// memory up to `top`.
fn built(
    levels: Levels,
    features: PagingFeatures,
    top: u64,
    build: impl FnOnce(&mut PageTables<'_>),
) -> std::vec::Vec<Table> {
    let size = PageTables::size_needed(top, 0x4000, features) / PAGE;
    let mut memory = std::vec![[0u64; 512]; size as usize];
    let mut tables = PageTables::new(memory.as_mut_bytes(), AT, levels, features).expect("room");
    assert_eq!(tables.root(), AT);
    build(&mut tables);
    memory
}

/// Physical address and the leaf's flags, or `None` where nothing is mapped.
fn walk(tables: &[Table], levels: Levels, address: u64) -> Option<(u64, u64)> {
    let mut table = AT;
    let mut shift = levels.top_shift();
    loop {
        let entry = tables[((table - AT) / PAGE) as usize][index(address, shift)];
        if entry & PRESENT == 0 {
            return None;
        }
        if shift == 12 || entry & LARGE != 0 {
            let within = (1 << shift) - 1;
            return Some(((entry & ADDRESS & !within) | (address & within), entry & !ADDRESS));
        }
        table = entry & ADDRESS;
        shift -= 9;
    }
}

fn features(gib_pages: bool) -> PagingFeatures {
    PagingFeatures { levels: Levels::Five, gib_pages, no_execute: true, physical_bits: 40 }
}

const BASE: u64 = 0xffff_ffff_8000_0000;

fn segment(address: u64, len: u64, write: bool, execute: bool) -> Segment<'static> {
    Segment { number: 0, address, len, data: &[], write, execute }
}

#[test]
fn the_protocols_rules_choose_the_levels() {
    use Levels::{Five, Four};
    let wish = |preferred, max, min| Some(PagingWish { preferred, max, min });
    assert_eq!(choose_levels(None, Five), Ok(Four));
    assert_eq!(choose_levels(wish(1, 1, 0), Five), Ok(Five));
    assert_eq!(choose_levels(wish(1, 1, 0), Four), Ok(Four));
    assert_eq!(choose_levels(wish(0, 1, 0), Five), Ok(Four));
    assert_eq!(choose_levels(wish(0, 1, 1), Five), Ok(Five));
    assert_eq!(choose_levels(wish(1, 0, 0), Five), Ok(Four));
    assert_eq!(choose_levels(wish(9, 9, 0), Five), Ok(Five));
    assert_eq!(choose_levels(wish(1, 1, 1), Four), Err(PagingError::TooFewLevels(1)));
    assert_eq!(choose_levels(wish(2, 3, 2), Five), Err(PagingError::TooFewLevels(2)));
    assert_eq!(choose_levels(wish(1, 0, 1), Five), Err(PagingError::EmptyRange { max: 0, min: 1 }));
}

#[test]
fn segments_get_their_permissions_and_nothing_more() {
    let segments = [(BASE, false, true), (BASE + 0x2000, false, false), (BASE + 0x3000, true, false)];
    for levels in [Levels::Four, Levels::Five] {
        let tables = built(levels, features(true), 0, |tables| {
            for (address, write, execute) in segments {
                let segment = segment(address + 4, 0x800, write, execute);
                tables.map_segment(&segment, BASE, 0x70_0000).expect("room");
            }
        });
        let at = |offset| walk(&tables, levels, BASE + offset);
        assert_eq!(at(0x123), Some((0x70_0123, PRESENT)));
        assert_eq!(at(0x1000), None);
        assert_eq!(at(0x2000), Some((0x70_2000, PRESENT | NO_EXECUTE)));
        assert_eq!(at(0x3fff), Some((0x70_3fff, PRESENT | WRITABLE | NO_EXECUTE)));
        assert_eq!(at(0x4000), None);
    }
}

#[test]
fn the_lower_half_is_an_alias_that_one_entry_holds() {
    for levels in [Levels::Four, Levels::Five] {
        let mut tables = built(levels, features(true), 1 << 32, |tables| {
            tables.map_direct(0, 1 << 32).expect("room");
            tables.alias_lower_half();
        });
        assert_eq!(walk(&tables, levels, 0x1234_5678).map(|found| found.0), Some(0x1234_5678));
        tables[0][0] = 0;
        assert_eq!(walk(&tables, levels, 0x1234_5678), None);
        assert!(walk(&tables, levels, levels.higher_half()).is_some());
    }
}

#[test]
fn memory_for_tables_can_run_out() {
    let mut memory = [[0u64; 512]; 2];
    let mut tables = PageTables::new(memory.as_mut_bytes(), AT, Levels::Four, features(false)).expect("room");
    assert_eq!(tables.map_direct(0, 1), Err(PagingError::NoTables));
    assert!(PageTables::new(&mut [], AT, Levels::Four, features(false)).is_err());
}

#[test]
fn too_much_memory_is_refused() {
    let huge = PagingFeatures { physical_bits: 64, ..features(true) };
    assert_eq!(check_top(1 << 40, Levels::Four, features(true)), Ok(()));
    assert_eq!(
        check_top((1 << 40) + GIB, Levels::Five, features(true)),
        Err(PagingError::TooMuchMemory((1 << 40) + GIB))
    );
    assert_eq!(check_top(1 << 46, Levels::Four, huge), Ok(()));
    assert_eq!(check_top(1 << 47, Levels::Four, huge), Err(PagingError::TooMuchMemory(1 << 47)));
    assert_eq!(check_top(1 << 47, Levels::Five, huge), Ok(()));
}

proptest! {
    #[test]
    fn the_direct_map_is_an_offset(
        start in 0u64..8, count in 1u64..5, gib_pages: bool, five: bool, probe in 0u64..12 * GIB,
    ) {
        let levels = if five { Levels::Five } else { Levels::Four };
        let tables = built(levels, features(gib_pages), (start + count) * GIB, |tables| {
            tables.map_direct(start * GIB + 5, (start + count) * GIB - 7).expect("room");
            tables.map_segment(&segment(BASE + 0x1f_e000, 0x4000, true, false), BASE, 0).expect("room");
        });
        let inside = (start * GIB..(start + count) * GIB).contains(&probe);
        let expected = inside.then_some((probe, PRESENT | WRITABLE | LARGE));
        let found = walk(&tables, levels, levels.higher_half() + probe);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(walk(&tables, levels, probe), None);
    }
}
