//! Information words of messages against the table of docs/ipc.md, read bit by bit.

use libpks::abi::message::{Info, MAX_TRANSFERS, Transfer, TransferMode};

/// What the table says of a word.
struct Read {
    bytes: u64,
    transfers: Vec<(u64, bool)>,
    valid: bool,
}

/// `count` bits from `first` on, by division.
fn bits(word: u64, first: u32, count: u32) -> u64 {
    word / 2_u64.pow(first) % 2_u64.pow(count)
}

fn read(word: u64) -> Read {
    let (bytes, count) = (bits(word, 0, 13), bits(word, 16, 3));
    let said = |n: u64| (bits(word, 20 + 3 * n as u32, 2), bits(word, 22 + 3 * n as u32, 1) == 1);
    let transfers: Vec<_> = (0..count.min(MAX_TRANSFERS as u64)).map(said).collect();
    let rest = (count..MAX_TRANSFERS as u64).any(|n| said(n) != (0, false));
    let reserved = bits(word, 13, 3) + bits(word, 19, 1) + bits(word, 32, 32);
    let valid = bytes <= 4096
        && count <= MAX_TRANSFERS as u64
        && transfers.iter().all(|(mode, _)| *mode < 3)
        && !rest
        && reserved == 0;
    Read { bytes, transfers, valid }
}

/// Runs the target.
pub fn run(bytes: &[u8]) {
    for chunk in bytes.chunks_exact(8) {
        check(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
    }
}

fn check(raw: u64) {
    let (info, expected) = (Info::from_raw(raw), read(raw));
    assert_eq!(info.is_valid(), expected.valid, "{raw:#x}");
    assert_eq!(info.raw(), raw);
    assert_eq!(info.result().is_ok(), raw >> 32 == 0, "{raw:#x}");
    let kinds = [TransferMode::Copy, TransferMode::Move, TransferMode::Lend];
    for n in 0..8 {
        let wanted = expected.transfers.get(n).and_then(|&(mode, read_only)| {
            let mode = *kinds.get(mode as usize)?;
            Some(Transfer { mode, read_only })
        });
        assert_eq!(info.transfer(n), wanted, "{raw:#x}, capability {n}");
    }
    if !expected.valid {
        return;
    }
    // A valid word is made again from what it says.
    let made = Info::new(expected.bytes as usize).expect("no more than a page");
    let made = (0..expected.transfers.len()).try_fold(made, |made, n| made.with_transfer(info.transfer(n)?));
    assert_eq!(made.map(Info::raw), Some(raw));
}
