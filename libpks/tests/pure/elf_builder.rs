//! Makes server images as the linker does, with whatever has to be wrong in them.

pub(crate) const TEXT: u64 = 0;
pub(crate) const RODATA: u64 = 0x1000;
pub(crate) const RELRO: u64 = 0x2000;
pub(crate) const DATA: u64 = 0x3000;

#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
    pub(crate) align: u64,
}

impl Header {
    pub(crate) fn new(kind: u32, flags: u32, vaddr: u64, file_size: u64, memory_size: u64) -> Self {
        // Each page of the image is one page later in the file, after the headers.
        Self { kind, flags, offset: vaddr + 0x1000, vaddr, file_size, memory_size, align: 0x1000 }
    }
}

/// The parts of an image. Unchanged it is a good one, laid out like those of the reference linker script.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) entry: u64,
    pub(crate) headers: Vec<Header>,
    /// In the note segment, at the start of the constants.
    pub(crate) notes: Vec<u8>,
    /// Info word, target, addend; after the notes.
    pub(crate) relocations: Vec<(u64, u64, u64)>,
    /// Tag and value; in the RELRO segment.
    pub(crate) dynamic: Vec<(u64, u64)>,
}

pub(crate) const RELA_AT: u64 = RODATA + 0x150;
const DYNAMIC_AT: u64 = RELRO + 0x88;

pub(crate) fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [name.len() as u32, descriptor.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    for part in [name, descriptor] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

impl Spec {
    pub(crate) fn good() -> Self {
        let notes = [note(b"GNU\0", 3, &[1, 2, 3]), note(b"Portcullis\0", 1, &7_u32.to_le_bytes())].concat();
        let note_header =
            Header { align: 4, ..Header::new(4, 4, RODATA, notes.len() as u64, notes.len() as u64) };
        Self {
            kind: 3,
            machine: 62,
            entry: TEXT + 0x30,
            headers: vec![
                Header::new(1, 5, TEXT, 0x985, 0x985),
                Header::new(1, 4, RODATA, 0x2cc, 0x2cc),
                Header::new(1, 6, RELRO, 0x168, 0x168),
                Header::new(1, 6, DATA, 0x10, 0x1f40),
                Header::new(2, 6, DYNAMIC_AT, 0xe0, 0xe0),
                Header::new(0x6474_e552, 4, RELRO, 0x168, 0x168),
                note_header,
            ],
            notes,
            relocations: vec![(8, RELRO, 0x10), (8, RELRO + 8, RODATA + 0x30), (8, DATA, DATA + 0x1f40)],
            dynamic: vec![
                (30, 8),
                (0x6fff_fffb, 0x0800_0001),
                (7, RELA_AT),
                (8, 72),
                (9, 24),
                (5, 0x1270),
                (0, 0),
            ],
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; 0x4010];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put =
            |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(16, &self.kind.to_le_bytes());
        put(18, &self.machine.to_le_bytes());
        put(20, &1_u32.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &(self.headers.len() as u16).to_le_bytes());
        for (at, header) in (64..).step_by(56).zip(&self.headers) {
            put(at, &header.kind.to_le_bytes());
            put(at + 4, &header.flags.to_le_bytes());
            let words = [
                header.offset,
                header.vaddr,
                header.vaddr,
                header.file_size,
                header.memory_size,
                header.align,
            ];
            for (at, word) in (at + 8..).step_by(8).zip(words) {
                put(at, &word.to_le_bytes());
            }
        }
        put(RODATA + 0x1000, &self.notes);
        for (at, (info, target, addend)) in (RELA_AT + 0x1000..).step_by(24).zip(&self.relocations) {
            put(at, &target.to_le_bytes());
            put(at + 8, &info.to_le_bytes());
            put(at + 16, &addend.to_le_bytes());
        }
        for (at, (tag, value)) in (DYNAMIC_AT + 0x1000..).step_by(16).zip(&self.dynamic) {
            put(at, &tag.to_le_bytes());
            put(at + 8, &value.to_le_bytes());
        }
        file
    }
}
