//! Keys, rights words and the key allocator.

use std::collections::VecDeque;

use libpks::pkey::{Access, KeyAllocator, KeyError, Pkey, Pkrs, Rights, pte_key, pte_with_key};
use proptest::prelude::*;

const ALL_RIGHTS: [Rights; 3] = [Rights::NoAccess, Rights::ReadOnly, Rights::ReadWrite];

fn key(number: u8) -> Pkey {
    Pkey::new(number).unwrap()
}

/// AD and WD of a key, read off the number by itself.
fn bits(word: Pkrs, key: Pkey) -> (bool, bool) {
    let shifted = word.raw() >> (key.index() * 2);
    (shifted & 1 != 0, shifted & 2 != 0)
}

#[test]
fn only_sixteen_keys_exist() {
    assert_eq!(Pkey::all().count(), 16);
    assert_eq!(Pkey::new(15).map(Pkey::index), Some(15));
    assert_eq!(Pkey::new(16), None);
    assert_eq!((Pkey::OPEN.index(), Pkey::KERNEL.index()), (0, 1));
}

#[test]
fn default_word_opens_key_0_alone() {
    assert_eq!(Pkrs::DEFAULT.raw(), 0x5555_5554);
    for key in Pkey::all() {
        let expected = if key == Pkey::OPEN { Rights::ReadWrite } else { Rights::NoAccess };
        assert_eq!(Pkrs::DEFAULT.rights(key), expected, "key {key}");
    }
}

#[test]
fn kernel_word_opens_keys_0_and_1_alone() {
    assert_eq!(Pkrs::KERNEL.raw(), 0x5555_5550);
    for key in Pkey::all() {
        let expected = if key.index() < 2 { Rights::ReadWrite } else { Rights::NoAccess };
        assert_eq!(Pkrs::KERNEL.rights(key), expected, "key {key}");
    }
}

#[test]
fn rights_are_ordered_by_power() {
    assert!(Rights::NoAccess < Rights::ReadOnly && Rights::ReadOnly < Rights::ReadWrite);
}

#[test]
fn access_disable_wins_over_write_disable() {
    for key in Pkey::all() {
        let both = Pkrs::from_raw(0b11 << (key.index() * 2));
        assert_eq!(both.rights(key), Rights::NoAccess);
    }
}

/// Each row: AD, WD, CR0.WP, read permitted, write permitted.
const TRUTH: [(bool, bool, bool, bool, bool); 8] = [
    (false, false, false, true, true),
    (false, false, true, true, true),
    (false, true, false, true, true),
    (false, true, true, true, false),
    (true, false, false, false, false),
    (true, false, true, false, false),
    (true, true, false, false, false),
    (true, true, true, false, false),
];

#[test]
fn permits_follows_the_truth_table_for_every_key() {
    for key in Pkey::all() {
        for (ad, wd, wp, read, write) in TRUTH {
            for others in [0, u32::MAX] {
                let mask = 0b11 << (key.index() * 2);
                let own = (u32::from(ad) | u32::from(wd) << 1) << (key.index() * 2);
                let word = Pkrs::from_raw((others & !mask) | own);
                assert_eq!(word.permits(key, Access::Read, wp), read, "{word:?} key {key} wp {wp}");
                assert_eq!(word.permits(key, Access::Write, wp), write, "{word:?} key {key} wp {wp}");
            }
        }
    }
}

#[test]
fn display_lists_open_keys_and_the_rest() {
    let word = Pkrs::DEFAULT.with(key(5), Rights::ReadOnly).with(key(15), Rights::ReadWrite);
    assert_eq!(word.to_string(), "0:rw 5:ro 15:rw rest:none");
    assert_eq!(Pkrs::CLOSED.to_string(), "all:none");
    let open = Pkrs::from_raw(0).to_string();
    assert!(open.starts_with("0:rw 1:rw ") && open.ends_with(" 15:rw"), "{open}");
    assert_eq!(format!("{:?}", Pkrs::DEFAULT), "Pkrs(0x55555554 0:rw rest:none)");
}

#[test]
fn page_table_key_is_bits_62_to_59() {
    assert_eq!(pte_with_key(0, key(15)), 0x7800_0000_0000_0000);
    assert_eq!(pte_with_key(0, key(1)), 1 << 59);
    assert_eq!(pte_with_key(u64::MAX, key(0)), 0x87ff_ffff_ffff_ffff);
    assert_eq!(pte_key(1 << 63 | 1 << 58), key(0));
}

proptest! {
    #[test]
    fn setting_a_key_changes_its_two_bits_alone(raw: u32, number in 0_u8..16, rights in 0_usize..3) {
        let (before, changed) = (Pkrs::from_raw(raw), key(number));
        let after = before.with(changed, ALL_RIGHTS[rights]);
        prop_assert_eq!(after.rights(changed), ALL_RIGHTS[rights]);
        prop_assert_ne!(bits(after, changed), (true, true));
        for other in Pkey::all().filter(|other| *other != changed) {
            prop_assert_eq!(bits(after, other), bits(before, other));
        }
    }

    #[test]
    fn narrowing_gives_the_smaller_right_of_every_key(a: u32, b: u32) {
        let (word, limit) = (Pkrs::from_raw(a), Pkrs::from_raw(b));
        let narrowed = word.narrowed(limit);
        for key in Pkey::all() {
            prop_assert_eq!(narrowed.rights(key), word.rights(key).min(limit.rights(key)));
            if word.rights(key) <= limit.rights(key) {
                prop_assert_eq!(bits(narrowed, key), bits(word, key), "bits kept");
            }
        }
        prop_assert!(narrowed.is_within(limit) && narrowed.is_within(word));
    }

    #[test]
    fn within_means_no_more_for_any_key(a: u32, b: u32, sparse: u32) {
        // Words that differ in few keys, or hardly any pair would be within.
        for b in [b, a ^ (b & sparse & 0x0300_0c01), a] {
            let (word, limit) = (Pkrs::from_raw(a), Pkrs::from_raw(b));
            let naive = Pkey::all().all(|key| word.rights(key) <= limit.rights(key));
            prop_assert_eq!(word.is_within(limit), naive);
        }
    }

    #[test]
    fn page_table_key_survives_and_touches_nothing_else(pte: u64, number in 0_u8..16) {
        let tagged = pte_with_key(pte, key(number));
        prop_assert_eq!(pte_key(tagged), key(number));
        prop_assert_eq!((tagged ^ pte) & !0x7800_0000_0000_0000, 0);
    }

    #[test]
    fn key_allocator_agrees_with_a_queue(steps in prop::collection::vec((any::<bool>(), 0_u8..16), 0..200)) {
        let mut keys = KeyAllocator::new();
        let mut free: VecDeque<Pkey> = (2..16).map(key).collect();
        for (allocate, number) in steps {
            if allocate {
                prop_assert_eq!(keys.allocate(), free.pop_front().ok_or(KeyError::Exhausted));
            } else {
                let expected = match key(number) {
                    key if key.index() < 2 => Err(KeyError::Reserved),
                    key if free.contains(&key) => Err(KeyError::NotAllocated),
                    key => { free.push_back(key); Ok(()) }
                };
                prop_assert_eq!(keys.release(key(number)), expected);
            }
            prop_assert_eq!(usize::from(keys.available()), free.len());
            let taken: Vec<Pkey> = (2..16).map(key).filter(|key| !free.contains(key)).collect();
            prop_assert_eq!(keys.allocated().collect::<Vec<_>>(), taken);
        }
    }
}

#[test]
fn all_fourteen_keys_come_out_once_then_exhausted() {
    let mut keys = KeyAllocator::new();
    let taken: Vec<u8> = (0..14).map(|_| keys.allocate().unwrap().index()).collect();
    assert_eq!(taken, (2..16).collect::<Vec<u8>>());
    assert_eq!(keys.allocate(), Err(KeyError::Exhausted));
    assert_eq!(keys.available(), 0);
}

#[test]
fn the_key_free_for_longest_is_reused_first() {
    let mut keys = KeyAllocator::new();
    let first = keys.allocate().unwrap();
    keys.release(first).unwrap();
    for _ in 0..13 {
        assert_ne!(keys.allocate().unwrap(), first);
    }
    assert_eq!(keys.allocate(), Ok(first));
}

#[test]
fn a_key_cannot_be_given_back_twice() {
    let mut keys = KeyAllocator::new();
    let taken = keys.allocate().unwrap();
    assert_eq!(keys.release(taken), Ok(()));
    assert_eq!(keys.release(taken), Err(KeyError::NotAllocated));
    assert_eq!(keys.available(), 14);
}

#[test]
fn keys_0_and_1_cannot_be_given_back() {
    let mut keys = KeyAllocator::new();
    for reserved in [Pkey::OPEN, Pkey::KERNEL] {
        assert_eq!(keys.release(reserved), Err(KeyError::Reserved));
    }
}
