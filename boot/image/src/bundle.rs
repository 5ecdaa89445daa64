//! Packs a bundle for the direct loader; `libpks::bundle` describes the format.

use anyhow::{Context, Result, ensure};
use libpks::bundle::{ALIGN, Bundle, Entry, Header, MAX_MEMBERS};

/// A file to pack.
#[derive(Debug)]
pub struct Member {
    /// Its path as the kernel sees it, such as `/boot/init`.
    pub path: String,
    /// Its string as the kernel sees it, such as `init`.
    pub string: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Packs `members`, the kernel first, and reads the result back with the loader's own reader.
///
/// # Errors
/// With no member or more than [`MAX_MEMBERS`], and with a NUL in a name.
pub fn pack(members: &[Member]) -> Result<Vec<u8>> {
    ensure!((1..=MAX_MEMBERS).contains(&members.len()), "a bundle has 1 to {MAX_MEMBERS} members");
    let names_start = Header::SIZE + members.len() * Entry::SIZE;
    let mut names = Vec::new();
    let mut entries = Vec::new();
    let mut offset = 0;
    for member in members {
        let (path, path_len) = push_name(&mut names, names_start, &member.path)?;
        let (string, string_len) = push_name(&mut names, names_start, &member.string)?;
        let len = member.data.len() as u64;
        entries.push(Entry { offset, len, path, path_len, string, string_len });
        offset += len.next_multiple_of(ALIGN);
    }
    let table_end = names_start + names.len();
    let data_start = (table_end as u64).next_multiple_of(ALIGN);
    let total = data_start + offset;
    let header = Header { count: u32::try_from(members.len())?, total, table_end: u32::try_from(table_end)? };

    let mut file = Vec::with_capacity(usize::try_from(total)?);
    file.extend(header.to_bytes());
    for entry in &mut entries {
        entry.offset += data_start;
        file.extend(entry.to_bytes());
    }
    file.extend(names);
    for member in members {
        pad(&mut file);
        file.extend(&member.data);
    }
    pad(&mut file);
    Bundle::parse(&file).context("a name in the bundle is malformed")?;
    Ok(file)
}

fn push_name(names: &mut Vec<u8>, start: usize, name: &str) -> Result<(u32, u32)> {
    let at = u32::try_from(start + names.len())?;
    names.extend(name.as_bytes());
    names.push(0);
    Ok((at, u32::try_from(name.len())?))
}

fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(ALIGN as usize), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, data: Vec<u8>) -> Member {
        Member { path: format!("/boot/{name}"), string: name.to_owned(), data }
    }

    #[test]
    fn the_loaders_reader_finds_every_member() {
        let sizes = [0, 1, 4095, 4096, 4097, 10_000];
        let members: Vec<_> = sizes.iter().map(|&n| member(&format!("m{n}"), vec![n as u8 | 1; n])).collect();
        let file = pack(&members).expect("packs");
        assert_eq!(file.len() % 4096, 0);
        let bundle = Bundle::parse(&file).expect("parses");
        let read: Vec<_> = std::iter::once(bundle.kernel()).chain(bundle.modules()).collect();
        assert_eq!(read.len(), members.len());
        for (read, packed) in read.iter().zip(&members) {
            assert_eq!(read.path.to_str(), Ok(packed.path.as_str()));
            assert_eq!(read.string.to_str(), Ok(packed.string.as_str()));
            assert_eq!(read.data, packed.data);
            assert_eq!((read.data.as_ptr() as usize - file.as_ptr() as usize) % 4096, 0);
        }
    }

    #[test]
    fn impossible_bundles_are_refused() {
        assert!(pack(&[]).is_err());
        assert!(pack(&[member("a\0b", vec![])]).is_err());
        let many: Vec<_> = (0..=MAX_MEMBERS).map(|i| member(&i.to_string(), vec![])).collect();
        assert!(pack(&many).is_err());
    }
}
