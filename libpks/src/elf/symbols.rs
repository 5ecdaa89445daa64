//! Names of functions, for reports. The symbol table is as hostile as the rest of the file: every read is checked,
//! and a lookup walks the table once.
#![forbid(unsafe_code)]

use super::read::{range, u16_at, u32_at, u64_at};

const SECTION_HEADER: u64 = 64;
const SYMBOL: usize = 24;
const SHT_SYMTAB: u32 = 2;
const STT_FUNC: u8 = 2;

/// The function of a server's file that the address `offset` (counted from the image's start) lies in: its name and
/// its first address. `None` if the file has no symbols or none that fits, or is malformed.
#[must_use]
pub fn symbol_at(file: &[u8], offset: u64) -> Option<(&str, u64)> {
    let (symbols, names) = symbol_table(file)?;
    symbols
        .chunks_exact(SYMBOL)
        .filter(|symbol| symbol[4] & 0xf == STT_FUNC)
        .filter_map(|symbol| Some((u64_at(symbol, 8)?, u64_at(symbol, 16)?, u32_at(symbol, 0)?)))
        .find(|&(start, bytes, _)| start <= offset && offset - start < bytes)
        .and_then(|(start, _, name)| Some((name_at(names, name)?, start)))
}

/// The bytes of the first symbol table and of its names.
fn symbol_table(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (headers, size, count) = (u64_at(file, 40)?, u16_at(file, 58)?, u16_at(file, 60)?);
    if u64::from(size) != SECTION_HEADER {
        return None;
    }
    let header = |n: u32| {
        let at = headers.checked_add(u64::from(n).checked_mul(SECTION_HEADER)?)?;
        if n < u32::from(count) { range(file, at, SECTION_HEADER) } else { None }
    };
    let content = |header: &[u8]| range(file, u64_at(header, 24)?, u64_at(header, 32)?);
    let table =
        (0..u32::from(count)).filter_map(header).find(|header| u32_at(header, 4) == Some(SHT_SYMTAB))?;
    let names = header(u32_at(table, 40)?)?;
    Some((content(table)?, content(names)?))
}

/// The NUL-terminated name at an offset.
fn name_at(names: &[u8], offset: u32) -> Option<&str> {
    let name = names.get(usize::try_from(offset).ok()?..)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&name[..end]).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// A file with two functions, `first` at 0x10..0x20 and `second` at 0x20..0x24.
    fn file() -> Vec<u8> {
        let mut file = alloc::vec![0; 64 + 3 * 64];
        file[40..48].copy_from_slice(&64u64.to_le_bytes());
        file[58] = 64;
        file[60] = 3;
        let symbols = file.len() as u64;
        for (name, start, bytes) in [(1u32, 0x10u64, 0x10u64), (7, 0x20, 4)] {
            file.extend_from_slice(&name.to_le_bytes());
            file.extend_from_slice(&[STT_FUNC, 0, 1, 0]);
            file.extend_from_slice(&start.to_le_bytes());
            file.extend_from_slice(&bytes.to_le_bytes());
        }
        let names = file.len() as u64;
        file.extend_from_slice(b"\0first\0second\0");
        let mut section = |n: usize, kind: u32, offset: u64, bytes: u64, link: u32| {
            let header = &mut file[64 + n * 64..][..64];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&offset.to_le_bytes());
            header[32..40].copy_from_slice(&bytes.to_le_bytes());
            header[40..44].copy_from_slice(&link.to_le_bytes());
        };
        section(1, SHT_SYMTAB, symbols, 48, 2);
        section(2, 3, names, 14, 0);
        file
    }

    #[test]
    fn finds_the_function_around_an_address() {
        let file = file();
        assert_eq!(symbol_at(&file, 0x10), Some(("first", 0x10)));
        assert_eq!(symbol_at(&file, 0x1f), Some(("first", 0x10)));
        assert_eq!(symbol_at(&file, 0x20), Some(("second", 0x20)));
        assert_eq!([symbol_at(&file, 0xf), symbol_at(&file, 0x24)], [None, None]);
    }

    proptest! {
        #[test]
        fn malformed_files_do_no_harm(at in 0usize..300, byte: u8, offset: u64, cut in 0usize..400) {
            let mut file = file();
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            file.truncate(cut);
            let _ = symbol_at(&file, offset);
            let _ = symbol_at(&file, 0x10);
        }
    }
}
