//! The key of a page-table entry: all sixteen keys over all patterns of its flags.

use super::shares::check_all;
use super::{bits_of, number_of};
use libpks::pkey::{Pkey, pte_key, pte_with_key};

/// Bits that say something besides the address: 11:0, 58:52 (ignored by the CPU), the old key in 62:59, and 63 (XD).
const FLAGS: [usize; 24] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63];
/// Addresses: none, all bits up to 51, and every other one.
const ADDRESSES: [u64; 3] = [0, 0x000f_ffff_ffff_f000, 0x0005_5555_5555_5000];

#[test]
#[ignore = "800 million entries take a while in a debug build: `just exhaustive`"]
fn any_key_replaces_the_key_of_any_entry_and_nothing_else() {
    let (patterns, shares) = (1_u64 << FLAGS.len(), 256_u64);
    let cases = patterns * ADDRESSES.len() as u64 * 16;
    check_all("page-table entries x keys", shares as u32, cases, |share| {
        let mut checked = 0;
        for pattern in (u64::from(share)..patterns).step_by(shares as usize) {
            let mut flags = [false; 64];
            FLAGS.into_iter().zip(bits_of::<24>(pattern)).for_each(|(at, bit)| flags[at] = bit);
            let old = number_of(&flags[59..63]);
            for key in Pkey::all() {
                flags[59..63].copy_from_slice(&bits_of::<4>(key.index().into()));
                let expected = number_of(&flags);
                for address in ADDRESSES {
                    // The old key is in 62:59 of what goes in.
                    let entry = expected - (u64::from(key.index()) << 59) + (old << 59) + address;
                    let tagged = pte_with_key(entry, key);
                    assert_eq!(tagged, expected + address, "{entry:#x} under key {key}");
                    assert_eq!(u64::from(pte_key(entry).index()), old, "{entry:#x}");
                    assert_eq!(pte_key(tagged), key, "{tagged:#x}");
                    checked += 1;
                }
            }
        }
        checked
    });
}
