//! Generational storage.

use std::collections::HashMap;

use libpks::table::{Arena, ArenaError, Id, OutOfMemory, Slot, checked_index};
use proptest::prelude::*;

use crate::small_table::SmallTable;

type Words = Arena<u32, Vec<Slot<u32>>>;

fn words() -> Words {
    Arena::new(Vec::new())
}

#[test]
fn removed_value_is_gone_and_its_id_stays_stale() {
    let mut arena = words();
    let old = arena.insert(7).unwrap();
    assert_eq!(arena.remove(old), Some(7));
    let new = arena.insert(8).unwrap();
    assert_eq!(new.index, old.index, "slot is used again");
    assert_eq!(arena.get(old), None);
    assert_eq!(arena.remove(old), None);
    assert_eq!(arena.get_mut(old), None);
    assert_eq!(arena.get(new), Some(&8));
}

#[test]
fn made_up_ids_name_nothing() {
    let mut arena = words();
    let id = arena.insert(7).unwrap();
    for (index, generation) in [(0, 0), (0, 2), (1, 1), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
        assert_eq!(arena.get(Id { index, generation }), None);
        assert_eq!(arena.get_mut(Id { index, generation }), None);
    }
    assert_eq!(arena.get(id), Some(&7));
}

#[test]
fn renewed_value_keeps_its_slot_under_a_new_id() {
    let mut arena = words();
    let old = arena.insert(7).unwrap();
    let new = arena.renew(old).unwrap();
    assert_eq!((new.index, arena.get(old), arena.get(new)), (old.index, None, Some(&7)));
    assert_eq!(arena.renew(old), Err(ArenaError::NoSuchEntry));
}

#[test]
fn full_table_is_an_error_until_something_is_removed() {
    let mut arena = Arena::new(SmallTable::new(2));
    let first = arena.insert(1).unwrap();
    arena.insert(2).unwrap();
    assert_eq!(arena.insert(3), Err(OutOfMemory));
    assert_eq!(arena.len(), 2);
    arena.remove(first);
    assert_eq!(arena.insert(3).map(|id| id.index), Ok(first.index));
}

#[test]
fn reserved_slots_are_there_when_the_table_cannot_grow() {
    let mut arena = Arena::new(SmallTable::new(3));
    let first = arena.insert(1).unwrap();
    assert_eq!(arena.reserve(2), Ok(()));
    assert_eq!((arena.capacity(), arena.len()), (3, 1));
    assert_eq!(arena.reserve(3), Err(OutOfMemory));
    arena.remove(first);
    assert_eq!(arena.reserve(3), Ok(()), "the free one counts");
    assert!((0..3).all(|value| arena.insert(value).is_ok()));
    assert_eq!(arena.insert(3), Err(OutOfMemory));
    assert_eq!(arena.reserve(1), Err(OutOfMemory));
}

proptest! {
    #[test]
    fn arena_agrees_with_a_map(steps in prop::collection::vec((0_u8..6, any::<prop::sample::Index>(), any::<u32>()), 0..200)) {
        let mut arena = words();
        let mut model: HashMap<Id, u32> = HashMap::new();
        let mut ever: Vec<Id> = Vec::new();
        for (kind, pick, value) in steps {
            let chosen = (!ever.is_empty()).then(|| *pick.get(&ever));
            match (kind, chosen) {
                (0 | 1, _) | (2..=4 | 6.., None) => {
                    let id = arena.insert(value).unwrap();
                    prop_assert!(!ever.contains(&id), "id given twice");
                    ever.push(id);
                    model.insert(id, value);
                }
                (5, _) => {
                    arena.reserve(value % 4).unwrap();
                    let capacity = arena.capacity();
                    for _ in 0..value % 4 {
                        let id = arena.insert(value).unwrap();
                        prop_assert!(!ever.contains(&id), "id given twice");
                        ever.push(id);
                        model.insert(id, value);
                    }
                    prop_assert_eq!(arena.capacity(), capacity, "found the reserved slots");
                }
                (2, Some(id)) => prop_assert_eq!(arena.remove(id), model.remove(&id)),
                (3, Some(id)) => {
                    let renewed = arena.renew(id);
                    prop_assert_eq!(renewed.is_ok(), model.contains_key(&id));
                    if let (Ok(new), Some(value)) = (renewed, model.remove(&id)) {
                        prop_assert!(!ever.contains(&new), "id given twice");
                        ever.push(new);
                        model.insert(new, value);
                    }
                }
                (_, Some(id)) => prop_assert_eq!(arena.get_mut(id), model.get_mut(&id)),
            }
            prop_assert_eq!(arena.len() as usize, model.len());
        }
        for id in ever {
            prop_assert_eq!(arena.get(id), model.get(&id));
        }
        prop_assert_eq!(arena.iter().map(|(id, value)| (id, *value)).collect::<HashMap<_, _>>(), model);
    }

    #[test]
    fn checked_index_is_the_index_or_nothing(index: u32, len: u32) {
        for (index, len) in [(index, len), (index, index), (index, index.saturating_add(1)), (index % 8, len % 8)] {
            prop_assert_eq!(checked_index(index, len), (index < len).then_some(index));
        }
    }
}
