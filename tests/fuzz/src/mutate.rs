//! Changes of inputs. The engine has its own; these know where headers have fields, and what values readers trip over.

use fastrand::Rng;

/// Where a format has numbers, and how many bytes each takes.
pub type Fields = &'static [(usize, usize)];

/// Numbers at which checks have their edges.
const EDGES: [u64; 18] = [
    0,
    1,
    7,
    8,
    24,
    55,
    56,
    57,
    0xff,
    0xfff,
    0x1000,
    0x1001,
    0xffff,
    256 << 20,
    (256 << 20) + 1,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX,
];

/// Changes an input a little. It gets no longer than `longest`.
pub fn mutate(bytes: &mut Vec<u8>, fields: Fields, other: &[u8], longest: usize, random: &mut Rng) {
    for _ in 0..random.usize(1..4) {
        match random.u8(0..8) {
            0 | 1 => set_field(bytes, fields, random),
            2 => set_number(bytes, random),
            3 => flip_bit(bytes, random),
            4 => splice(bytes, other, random),
            5 => insert(bytes, random),
            6 => remove(bytes, random),
            _ => set_byte(bytes, random),
        }
    }
    bytes.truncate(longest);
}

/// A field of the format gets a number at an edge, or one near to the input's length or to what it held.
pub fn set_field(bytes: &mut [u8], fields: Fields, random: &mut Rng) {
    let Some(&(at, size)) = random.choice(fields.iter().collect::<Vec<_>>()) else {
        return set_number(bytes, random);
    };
    let length = bytes.len() as u64;
    let Some(place) = bytes.get_mut(at..at + size) else { return };
    let held = place.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let value = match random.u8(0..4) {
        0 => edge(random),
        1 => length.wrapping_add(random.u64(0..5)).wrapping_sub(2),
        2 => held.wrapping_add(random.u64(0..5)).wrapping_sub(2),
        _ => held ^ 1 << random.u32(0..64),
    };
    place.copy_from_slice(&value.to_le_bytes()[..size]);
}

fn edge(random: &mut Rng) -> u64 {
    EDGES[random.usize(0..EDGES.len())]
}

fn set_number(bytes: &mut [u8], random: &mut Rng) {
    let size = 1 << random.u8(0..4);
    if bytes.len() >= size {
        let at = random.usize(0..=bytes.len() - size);
        bytes[at..at + size].copy_from_slice(&edge(random).to_le_bytes()[..size]);
    }
}

fn flip_bit(bytes: &mut [u8], random: &mut Rng) {
    if !bytes.is_empty() {
        let at = random.usize(0..bytes.len());
        bytes[at] ^= 1 << random.u8(0..8);
    }
}

fn set_byte(bytes: &mut [u8], random: &mut Rng) {
    if !bytes.is_empty() {
        let at = random.usize(0..bytes.len());
        bytes[at] = random.u8(..);
    }
}

/// Takes over a piece of another input.
fn splice(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    if other.is_empty() {
        return;
    }
    let from = random.usize(0..other.len());
    let piece = &other[from..from + random.usize(0..=(other.len() - from).min(64))];
    let at = random.usize(0..=bytes.len());
    let end = (at + if random.bool() { piece.len() } else { 0 }).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
}

fn insert(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(0..=bytes.len());
    let new: Vec<u8> = (0..random.usize(1..9)).map(|_| random.u8(..)).collect();
    bytes.splice(at..at, new);
}

fn remove(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(0..=bytes.len());
    let end = (at + random.usize(0..17)).min(bytes.len());
    bytes.drain(at..end);
}
