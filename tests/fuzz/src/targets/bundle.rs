//! The bundle: each member of one that is taken lies in the file, alone.

use libpks::bundle::{ALIGN, Bundle, Entry, Header, MAX_MEMBERS};

/// The header's count, length and end of table; then the fields of the first four entries.
pub const FIELDS: &[(usize, usize)] = &{
    let entry = [(0, 8), (8, 8), (16, 4), (20, 4), (24, 4), (28, 4)];
    let mut fields = [(8, 4); 4 + 4 * 6];
    (fields[1], fields[2], fields[3]) = ((12, 4), (16, 8), (24, 4));
    let mut n = 4;
    while n < fields.len() {
        let (offset, size) = entry[(n - 4) % 6];
        fields[n] = (Header::SIZE + Entry::SIZE * ((n - 4) / 6) + offset, size);
        n += 1;
    }
    fields
};

/// Runs the target.
pub fn run(file: &[u8]) {
    let Ok(bundle) = Bundle::parse(file) else { return };
    let members: Vec<_> = std::iter::once(bundle.kernel()).chain(bundle.modules()).collect();
    assert!((1..=MAX_MEMBERS).contains(&members.len()));
    let base = file.as_ptr() as usize;
    let within = |bytes: &[u8]| {
        let start = bytes.as_ptr() as usize - base;
        assert!(start + bytes.len() <= file.len(), "bytes outside of the file");
        start
    };
    let table_end = Header::from_bytes(file).expect("it was taken").table_end as usize;
    let mut free_from = table_end;
    for member in &members {
        let start = within(member.data);
        assert!(start.is_multiple_of(ALIGN as usize), "a member at {start:#x}");
        assert!(start >= free_from, "a member over another, or over the table");
        free_from = start + member.data.len();
        for name in [member.path, member.string] {
            let bytes = name.to_bytes_with_nul();
            assert!(within(bytes) + bytes.len() <= table_end, "a name outside of the table");
        }
    }
}
