//! Everything there is, where "everything" can be counted: all rights words, all flags of a page-table entry under
//! every key, all short histories of the key allocator. `just exhaustive` runs these in release mode; they are ignored
//! elsewhere because a debug build would take hours.

mod key_histories;
mod page_table;
mod rights_words;
mod shares;

/// Each bit of a number, by division: what the references here are made of, so that they share no shift and no mask with
/// what they check.
fn bits_of<const N: usize>(number: u64) -> [bool; N] {
    let mut rest = number;
    std::array::from_fn(|_| {
        let bit = rest % 2 == 1;
        rest /= 2;
        bit
    })
}

/// The number with these bits.
fn number_of(bits: &[bool]) -> u64 {
    bits.iter().rev().fold(0, |number, &bit| 2 * number + u64::from(bit))
}
