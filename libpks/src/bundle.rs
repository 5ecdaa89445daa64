//! The bundle: one file with the kernel and its modules, for a loader that is given one file only.
//!
//! QEMU's `-kernel` path hands a PVH loader a single module (`-initrd`), so the image builder packs
//! the kernel and what Limine would load as modules into one file. This is the format's only
//! description: the builder writes with [`Header::to_bytes`] and [`Entry::to_bytes`], the direct
//! loader reads with [`Bundle::parse`].
//!
//! All numbers are little-endian, all offsets count from the file's first byte:
//!
//! | where | what |
//! | --- | --- |
//! | 0 | [`Header`], 32 bytes |
//! | 32 | [`Entry`] × `count`, 32 bytes each |
//! | after them | the names: NUL-terminated strings, found by the entries |
//! | multiples of [`ALIGN`] | the members' bytes in the entries' order, the gaps zero |
//!
//! Member 0 is the kernel; the others are the modules in the order in which the kernel sees them.
//! Each begins on a page of its own, so that a loader whose copy of the file is page-aligned can
//! hand the members on in place. Names are NUL-terminated for the same reason.

use core::ffi::CStr;

/// The first eight bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"PKSBNDL\0";
/// The version of the format; a reader refuses every other one.
pub const VERSION: u32 = 1;
/// The alignment in bytes of each member's start and of the file's length.
pub const ALIGN: u64 = 4096;
/// The most members a bundle may have, which bounds a reader's tables.
pub const MAX_MEMBERS: usize = 64;

/// Why a file is not a bundle that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The file does not begin with [`MAGIC`], or is too short to.
    #[error("not a bundle: no magic number at its start")]
    NotABundle,
    /// The file has another version of the format.
    #[error("bundle has format version {0}, this reader knows {VERSION}")]
    Version(u32),
    /// The header's length is not the length of what was given: cut off, or padded.
    #[error("bundle says it is {said} bytes long, {given} were given")]
    Length {
        /// The length in the header.
        said: u64,
        /// The length of the bytes that were given.
        given: u64,
    },
    /// There is no kernel, or there are more than [`MAX_MEMBERS`] members.
    #[error("bundle has {0} members, 1 to {MAX_MEMBERS} are possible")]
    Count(u32),
    /// The entries or the names do not fit in front of the members.
    #[error("bundle's table does not fit its file")]
    Table,
    /// A member is unaligned, out of order, overlaps its neighbour or leaves the file.
    #[error("bundle member {0} does not lie where a member may")]
    Placement(usize),
    /// A member's name leaves the table, or is not one NUL-terminated string.
    #[error("bundle member {0} has a malformed name")]
    Name(usize),
}

/// The bundle's first 32 bytes. The last 4 are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The number of members.
    pub count: u32,
    /// The length of the whole file in bytes.
    pub total: u64,
    /// Where the names end; the members begin at the next multiple of [`ALIGN`] or later.
    pub table_end: u32,
}

impl Header {
    /// The encoded size in bytes.
    pub const SIZE: usize = 32;

    /// Encodes the header, magic and version included.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.total.to_le_bytes());
        out[24..28].copy_from_slice(&self.table_end.to_le_bytes());
        out
    }

    /// Decodes the header at the start of `file`.
    ///
    /// # Errors
    /// [`BundleError::NotABundle`] without the magic number or with fewer than 32 bytes,
    /// [`BundleError::Version`] for another version of the format.
    pub fn from_bytes(file: &[u8]) -> Result<Self, BundleError> {
        let raw = file.get(..Self::SIZE).ok_or(BundleError::NotABundle)?;
        if raw[..8] != MAGIC {
            return Err(BundleError::NotABundle);
        }
        match le32(raw, 8) {
            VERSION => Ok(Self { count: le32(raw, 12), total: le64(raw, 16), table_end: le32(raw, 24) }),
            other => Err(BundleError::Version(other)),
        }
    }
}

/// Where a member lies and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The offset of the member's first byte, a multiple of [`ALIGN`].
    pub offset: u64,
    /// The member's length in bytes, without padding.
    pub len: u64,
    /// The offset of its path, such as `/boot/init`.
    pub path: u32,
    /// The length of the path in bytes, without its NUL.
    pub path_len: u32,
    /// The offset of its string, such as `init`.
    pub string: u32,
    /// The length of the string in bytes, without its NUL.
    pub string_len: u32,
}

impl Entry {
    /// The encoded size in bytes.
    pub const SIZE: usize = 32;

    /// Encodes the entry.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.len.to_le_bytes());
        out[16..20].copy_from_slice(&self.path.to_le_bytes());
        out[20..24].copy_from_slice(&self.path_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.string.to_le_bytes());
        out[28..].copy_from_slice(&self.string_len.to_le_bytes());
        out
    }

    fn read(raw: &[u8]) -> Self {
        Self {
            offset: le64(raw, 0),
            len: le64(raw, 8),
            path: le32(raw, 16),
            path_len: le32(raw, 20),
            string: le32(raw, 24),
            string_len: le32(raw, 28),
        }
    }
}

/// A member of a checked bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path, such as `/boot/init`.
    pub path: &'a CStr,
    /// Its string, such as `init` (Limine's `module_cmdline`).
    pub string: &'a CStr,
    /// Its bytes; the first lies at a multiple of [`ALIGN`] in the file.
    pub data: &'a [u8],
}

/// A bundle all of whose members have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    file: &'a [u8],
    count: usize,
    table_end: usize,
}

impl<'a> Bundle<'a> {
    /// Checks the whole of `file`: header, every entry, every name.
    ///
    /// # Errors
    /// The first mistake that it meets, as [`BundleError`] says.
    pub fn parse(file: &'a [u8]) -> Result<Self, BundleError> {
        let header = Header::from_bytes(file)?;
        let given = file.len() as u64;
        if header.total != given {
            return Err(BundleError::Length { said: header.total, given });
        }
        let count = header.count as usize;
        if count == 0 || count > MAX_MEMBERS {
            return Err(BundleError::Count(header.count));
        }
        let table_end = header.table_end as usize;
        if table_end > file.len() || table_end < Header::SIZE + count * Entry::SIZE {
            return Err(BundleError::Table);
        }
        let bundle = Self { file, count, table_end };
        let mut free_from = table_end as u64;
        for index in 0..count {
            let entry = bundle.entry(index);
            bundle.member_of(index, &entry)?;
            if entry.offset < free_from {
                return Err(BundleError::Placement(index));
            }
            free_from = entry.offset + entry.len;
        }
        Ok(bundle)
    }

    /// The kernel's ELF file: member 0.
    #[must_use]
    pub fn kernel(&self) -> Member<'a> {
        self.member(0).expect("parse refuses a bundle without members")
    }

    /// The modules in order: the members after the kernel.
    pub fn modules(&self) -> impl ExactSizeIterator<Item = Member<'a>> + use<'a> {
        let bundle = *self;
        (1..self.count).map(move |index| bundle.member(index).expect("parse checked each member"))
    }

    fn member(&self, index: usize) -> Option<Member<'a>> {
        self.member_of(index, &self.entry(index)).ok()
    }

    fn entry(&self, index: usize) -> Entry {
        let start = Header::SIZE + index * Entry::SIZE;
        Entry::read(&self.file[start..start + Entry::SIZE])
    }

    fn member_of(&self, index: usize, entry: &Entry) -> Result<Member<'a>, BundleError> {
        let misplaced = BundleError::Placement(index);
        let end = entry.offset.checked_add(entry.len).ok_or(misplaced)?;
        if !entry.offset.is_multiple_of(ALIGN) || end > self.file.len() as u64 {
            return Err(misplaced);
        }
        Ok(Member {
            path: self.name(entry.path, entry.path_len).ok_or(BundleError::Name(index))?,
            string: self.name(entry.string, entry.string_len).ok_or(BundleError::Name(index))?,
            data: &self.file[entry.offset as usize..end as usize],
        })
    }

    fn name(&self, offset: u32, len: u32) -> Option<&'a CStr> {
        let start = offset as usize;
        let end = start.checked_add(len as usize)?.checked_add(1)?;
        let names = Header::SIZE + self.count * Entry::SIZE..self.table_end;
        if start < names.start || end > names.end {
            return None;
        }
        CStr::from_bytes_with_nul(&self.file[start..end]).ok()
    }
}

fn le32(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

fn le64(raw: &[u8], at: usize) -> u64 {
    u64::from(le32(raw, at)) | u64::from(le32(raw, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: usize = 3 * ALIGN as usize;

    /// A bundle of a kernel of 100 bytes and one module of a page.
    fn sample() -> [u8; FILE] {
        let mut file = [0; FILE];
        let names = (Header::SIZE + 2 * Entry::SIZE) as u32;
        let table_end = names + 32;
        let header = Header { count: 2, total: FILE as u64, table_end };
        file[..32].copy_from_slice(&header.to_bytes());
        let text = b"/boot/kernel\0kernel\0/boot/i\0int\0";
        file[names as usize..table_end as usize].copy_from_slice(text);
        let kernel =
            Entry { offset: 4096, len: 100, path: names, path_len: 12, string: names + 13, string_len: 6 };
        let init = Entry {
            offset: 8192,
            len: 4096,
            path: names + 20,
            path_len: 7,
            string: names + 28,
            string_len: 3,
        };
        put(&mut file, 0, &kernel);
        put(&mut file, 1, &init);
        file[4096..4196].fill(b'K');
        file[8192..].fill(b'I');
        file
    }

    fn put(file: &mut [u8], index: usize, entry: &Entry) {
        let at = Header::SIZE + index * Entry::SIZE;
        file[at..at + Entry::SIZE].copy_from_slice(&entry.to_bytes());
    }

    fn broken(index: usize, change: impl Fn(&mut Entry)) -> BundleError {
        let mut file = sample();
        let mut entry = Entry::read(&file[Header::SIZE + index * Entry::SIZE..]);
        change(&mut entry);
        put(&mut file, index, &entry);
        Bundle::parse(&file).expect_err("the broken bundle was accepted")
    }

    #[test]
    fn reads_what_was_written() {
        let file = sample();
        let bundle = Bundle::parse(&file).expect("a good bundle");
        assert_eq!(bundle.kernel().path, c"/boot/kernel");
        assert_eq!(bundle.kernel().string, c"kernel");
        assert_eq!(bundle.kernel().data, &[b'K'; 100]);
        assert_eq!(bundle.modules().len(), 1);
        let init = bundle.modules().next().expect("one module");
        assert_eq!((init.path, init.string), (c"/boot/i", c"int"));
        assert_eq!(init.data, &[b'I'; 4096]);
    }

    #[test]
    fn refuses_a_bad_header() {
        let good = sample();
        assert_eq!(Bundle::parse(&[]).unwrap_err(), BundleError::NotABundle);
        assert_eq!(Bundle::parse(&good[..31]).unwrap_err(), BundleError::NotABundle);
        let with = |at: usize, value: u8| {
            let mut file = good;
            file[at] = value;
            Bundle::parse(&file).unwrap_err()
        };
        assert_eq!(with(0, b'Q'), BundleError::NotABundle);
        assert_eq!(with(8, 2), BundleError::Version(2));
        assert_eq!(with(12, 0), BundleError::Count(0));
        assert_eq!(with(12, 65), BundleError::Count(65));
        assert_eq!(with(27, 1), BundleError::Table);
        assert_eq!(with(24, 95), BundleError::Table);
        let cut = Bundle::parse(&good[..FILE - 1]).unwrap_err();
        assert_eq!(cut, BundleError::Length { said: FILE as u64, given: FILE as u64 - 1 });
    }

    #[test]
    fn refuses_a_misplaced_member() {
        assert_eq!(broken(0, |e| e.offset = 4097), BundleError::Placement(0));
        assert_eq!(broken(0, |e| e.offset = 0), BundleError::Placement(0));
        assert_eq!(broken(0, |e| e.len = 4097), BundleError::Placement(1));
        assert_eq!(broken(1, |e| e.len = 4097), BundleError::Placement(1));
        assert_eq!(broken(1, |e| e.offset = 4096), BundleError::Placement(1));
        assert_eq!(broken(1, |e| e.len = u64::MAX), BundleError::Placement(1));
    }

    #[test]
    fn refuses_a_malformed_name() {
        assert_eq!(broken(0, |e| e.path_len = 11), BundleError::Name(0));
        assert_eq!(broken(0, |e| e.path_len = 19), BundleError::Name(0));
        assert_eq!(broken(1, |e| e.string_len = 4), BundleError::Name(1));
        assert_eq!(broken(1, |e| e.string = 0), BundleError::Name(1));
        assert_eq!(broken(1, |e| (e.string, e.string_len) = (u32::MAX, u32::MAX)), BundleError::Name(1));
    }
}
