//! All 2^32 rights words, against references that set and read one bit at a time.
//!
//! A word is two halves of eight keys. What a reference makes of every half is in a table, so that a word costs two
//! look-ups; the code under test gets the whole word.

use super::shares::check_all;
use super::{bits_of, number_of};
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use std::fmt::Write;

/// Keys in half a word, halves that there are, words that there are.
const HALF_KEYS: usize = 8;
const HALVES: u32 = 1 << 16;
const WORDS: u64 = 1 << 32;

/// What a key may be set to, and the bits AD and WD that say so.
const RIGHTS: [(Rights, [bool; 2]); 3] = [
    (Rights::ReadWrite, [false, false]),
    (Rights::NoAccess, [true, false]),
    (Rights::ReadOnly, [false, true]),
];

/// What AD and WD mean.
fn meaning([denies_all, denies_writes]: [bool; 2]) -> Rights {
    match (denies_all, denies_writes) {
        (true, _) => Rights::NoAccess,
        (false, true) => Rights::ReadOnly,
        (false, false) => Rights::ReadWrite,
    }
}

/// AD and WD of a key of half a word.
fn pair(half: u32, key: usize) -> [bool; 2] {
    let bits: [bool; 16] = bits_of(half.into());
    [bits[2 * key], bits[2 * key + 1]]
}

/// One value for each half word.
fn table<T>(value_fn: impl Fn(u32) -> T) -> Vec<T> {
    (0..HALVES).map(value_fn).collect()
}

fn keys() -> impl Iterator<Item = (usize, Pkey)> {
    Pkey::all().enumerate()
}

fn join(high: u32, low: u32) -> u32 {
    (high << 16) | low
}

#[test]
#[ignore = "2^32 words take hours in a debug build: `just exhaustive`"]
fn setting_any_key_of_any_word_changes_its_two_bits_alone() {
    let set = |half: u32, key: usize, bits: [bool; 2]| {
        let mut all: [bool; 16] = bits_of(half.into());
        [all[2 * key], all[2 * key + 1]] = bits;
        number_of(&all) as u32
    };
    let after: Vec<[Vec<u32>; 3]> =
        (0..HALF_KEYS).map(|key| RIGHTS.map(|(_, bits)| table(|half| set(half, key, bits)))).collect();
    check_all("words x keys x rights set", HALVES, WORDS * 16 * 3, |high| {
        let mut checked = 0;
        for (number, key) in keys() {
            for (after, (rights, _)) in after[number % HALF_KEYS].iter().zip(RIGHTS) {
                let expected = |low: u32| match number < HALF_KEYS {
                    true => join(high, after[low as usize]),
                    false => join(after[high as usize], low),
                };
                let wrong =
                    |low: u32| Pkrs::from_raw(join(high, low)).with(key, rights).raw() ^ expected(low);
                // No branch in the loop, so that the compiler can take several words at once.
                if (0..HALVES).fold(0, |all, low| all | wrong(low)) != 0 {
                    let low = (0..HALVES).find(|&low| wrong(low) != 0).unwrap_or_default();
                    panic!("{:#010x}: key {key} set to {rights}, xor {:#010x}", join(high, low), wrong(low));
                }
                checked += u64::from(HALVES);
            }
        }
        checked
    });
}

#[test]
#[ignore = "2^32 words take hours in a debug build: `just exhaustive`"]
fn any_word_says_for_any_key_what_its_two_bits_say() {
    let meanings: Vec<Vec<u8>> =
        (0..HALF_KEYS).map(|key| table(|half| meaning(pair(half, key)) as u8)).collect();
    check_all("words x keys read", HALVES, WORDS * 16, |high| {
        let mut checked = 0;
        for (number, key) in keys() {
            let meanings = &meanings[number % HALF_KEYS];
            let expected = |low: u32| meanings[if number < HALF_KEYS { low } else { high } as usize];
            let wrong = |low: u32| Pkrs::from_raw(join(high, low)).rights(key) as u8 ^ expected(low);
            if (0..HALVES).fold(0, |all, low| all | wrong(low)) != 0 {
                let low = (0..HALVES).find(|&low| wrong(low) != 0).unwrap_or_default();
                let word = Pkrs::from_raw(join(high, low));
                panic!("{:#010x}: key {key} reads as {}", word.raw(), word.rights(key));
            }
            checked += u64::from(HALVES);
        }
        checked
    });
}

/// Accesses that there are, with CR0.WP clear and set.
const ACCESSES: [(Access, bool); 4] =
    [(Access::Read, false), (Access::Read, true), (Access::Write, false), (Access::Write, true)];

#[test]
#[ignore = "for the others' company: `just exhaustive`"]
fn any_half_word_permits_what_ad_wd_and_wp_permit() {
    // Whose rights are read is checked for all words above; here the other half is one of these.
    const OTHERS: [u32; 8] = [0x0000, 0xffff, 0x5555, 0xaaaa, 0x1b1b, 0xe4e4, 0x0ff0, 0xf00f];
    let cases = u64::from(HALVES) * OTHERS.len() as u64 * 16 * ACCESSES.len() as u64;
    check_all("half words x keys x accesses", HALVES, cases, |half| {
        let mut checked = 0;
        for ((number, key), other) in keys().flat_map(|key| OTHERS.map(|other| (key, other))) {
            let raw = if number < HALF_KEYS { join(other, half) } else { join(half, other) };
            let [ad, wd] = pair(half, number % HALF_KEYS);
            for (access, wp) in ACCESSES {
                // SDM vol. 3A, 4.6.2: AD denies everything, WD denies writes while CR0.WP is set.
                let denied = ad || (wd && wp && access == Access::Write);
                let said = Pkrs::from_raw(raw).permits(key, access, wp);
                assert_eq!(said, !denied, "{raw:#010x}: {access} under key {key}, CR0.WP {wp}");
                checked += 1;
            }
        }
        checked
    });
}

/// Half a word under half a limit: what it narrows to, and whether it is within already.
#[derive(Clone, Copy, Default)]
struct Narrowed {
    bits: u32,
    within: bool,
}

/// Sets of four keys under sets of four keys, key by key.
fn narrowed_bytes() -> Vec<Narrowed> {
    table(|both| {
        let pairs = |byte: u32| (0..4).map(move |key| pair(byte, key));
        let (mut bits, mut within) = (Vec::new(), true);
        for (word, limit) in pairs(both / 256).zip(pairs(both % 256)) {
            let smaller = meaning(word).min(meaning(limit));
            let stays = smaller == meaning(word);
            within &= stays;
            let written = RIGHTS.into_iter().find(|(rights, _)| *rights == smaller).map(|(_, bits)| bits);
            // Bits that mean the right already stay as they are.
            bits.extend(if stays { word } else { written.expect("all rights are listed") });
        }
        Narrowed { bits: number_of(&bits) as u32, within }
    })
}

/// One half under all limits, or (`turned`) one limit over all halves.
fn narrowed_halves(bytes: &[Narrowed], one: u32, turned: bool) -> Vec<Narrowed> {
    let byte =
        |one: u32, other: u32| bytes[(if turned { other * 256 + one } else { one * 256 + other }) as usize];
    let mut halves = Vec::with_capacity(HALVES as usize);
    for upper in 0..256 {
        let high = byte(one / 256, upper);
        halves.extend((0..256).map(|lower| {
            let low = byte(one % 256, lower);
            Narrowed { bits: high.bits * 256 + low.bits, within: high.within && low.within }
        }));
    }
    halves
}

/// Where a word under a limit differs from what is expected of its halves; 0 if nowhere.
#[inline(always)]
fn difference(word: u32, limit: u32, high: Narrowed, low: Narrowed) -> u32 {
    let (word, limit) = (Pkrs::from_raw(word), Pkrs::from_raw(limit));
    let bits = word.narrowed(limit).raw() ^ join(high.bits, low.bits);
    bits | u32::from(word.is_within(limit) != (high.within & low.within))
}

#[test]
#[ignore = "2^32 pairs take hours in a debug build: `just exhaustive`"]
fn any_two_sets_of_eight_keys_narrow_key_by_key() {
    // All pairs are tried in both halves of words, but not the same at once: one that took bits of the wrong half would
    // go unnoticed.
    const OTHER_WORD: u32 = 0x9c36;
    const OTHER_LIMIT: u32 = 0x6900;
    let bytes = narrowed_bytes();
    check_all("pairs of sets of eight keys", HALVES, WORDS, |word| {
        let low = narrowed_halves(&bytes, word, false);
        let high = narrowed_halves(&bytes, word ^ OTHER_WORD, false);
        let (word, mut checked) = (join(word ^ OTHER_WORD, word), 0);
        for start in (0..HALVES).step_by(256) {
            let other = start ^ OTHER_LIMIT;
            let (low, high) = (&low[start as usize..][..256], &high[other as usize..][..256]);
            let limits =
                || (start..).zip(other..).map(|(low, high)| join(high, low)).zip(high.iter().zip(low));
            let wrong =
                |(limit, (high, low)): (u32, (&Narrowed, &Narrowed))| difference(word, limit, *high, *low);
            if limits().fold(0, |all, item| all | wrong(item)) != 0 {
                let found = limits().find(|&item| wrong(item) != 0).map(|(limit, _)| limit);
                panic!("{word:#010x} under {:#010x}", found.unwrap_or_default());
            }
            checked += 256;
        }
        checked
    });
}

#[test]
#[ignore = "2^32 words take hours in a debug build: `just exhaustive`"]
fn any_word_narrows_to_the_words_that_the_kernel_uses() {
    let bytes = narrowed_bytes();
    let limits = [Pkrs::DEFAULT, Pkrs::KERNEL, Pkrs::from_raw(0xaaaa_aaaa)].map(|limit| {
        let of = |half| narrowed_halves(&bytes, half, true);
        (limit.raw(), of(limit.raw() / HALVES), of(limit.raw() % HALVES))
    });
    check_all("words x limits", HALVES, WORDS * 3, |high| {
        let mut checked = 0;
        for (limit, high_halves, low_halves) in &limits {
            let expected_high = high_halves[high as usize];
            let wrong =
                |(low, half): (u32, &Narrowed)| difference(join(high, low), *limit, expected_high, *half);
            if (0..).zip(low_halves).fold(0, |all, item| all | wrong(item)) != 0 {
                let found = (0..).zip(low_halves).find(|&item| wrong(item) != 0).map(|(low, _)| low);
                panic!("{:#010x} under {limit:#010x}", join(high, found.unwrap_or_default()));
            }
            checked += low_halves.len() as u64;
        }
        checked
    });
}

/// What a word's text says about each key; `None` if it is no such text.
fn read(text: &str) -> Option<[Rights; 16]> {
    let mut said = [None; 16];
    let mut rest = None;
    for item in text.split(' ') {
        let (who, what) = item.split_once(':')?;
        let rights = match what {
            "rw" => Rights::ReadWrite,
            "ro" => Rights::ReadOnly,
            "none" => Rights::NoAccess,
            _ => return None,
        };
        let place = match who {
            "all" | "rest" => &mut rest,
            number => said.get_mut(number.parse::<usize>().ok()?)?,
        };
        if place.replace(rights).is_some() {
            return None;
        }
    }
    let all: Option<Vec<Rights>> = said.into_iter().map(|it| it.or(rest)).collect();
    all?.try_into().ok()
}

fn check_text(raw: u32, buffer: &mut String) {
    buffer.clear();
    write!(buffer, "{}", Pkrs::from_raw(raw)).expect("a string takes everything");
    let halves = [raw % HALVES, raw / HALVES];
    let expected = std::array::from_fn(|key| meaning(pair(halves[key / HALF_KEYS], key % HALF_KEYS)));
    assert_eq!(read(buffer), Some(expected), "{raw:#010x} as {buffer}");
}

#[test]
#[ignore = "3^16 texts take an hour in a debug build: `just exhaustive`"]
fn the_text_of_a_word_says_what_the_word_says() {
    // 3^8 words of eight keys, without AD and WD together, which reads as AD alone does.
    let eight: Vec<u32> =
        (0..HALVES).filter(|&half| (0..HALF_KEYS).all(|key| pair(half, key) != [true, true])).collect();
    let shares = eight.len() as u32;
    check_all("texts of words", shares, u64::from(shares).pow(2), |share| {
        let mut buffer = String::new();
        eight.iter().for_each(|&low| check_text(join(eight[share as usize], low), &mut buffer));
        eight.len() as u64
    });
    check_all("texts of words with AD and WD of a key", HALVES, u64::from(HALVES) * 2, |half| {
        let mut buffer = String::new();
        check_text(join(half, 0x1234), &mut buffer);
        check_text(join(0xfedc, half), &mut buffer);
        2
    });
}
