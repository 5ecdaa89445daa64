//! The MADT: which CPUs and I/O APICs there are (ACPI 6.5, 5.2.5 to 5.2.12).

use crate::physical::{PhysicalMemory, le32, le64};

const HEADER_LEN: usize = 36;
const MADT_ENTRIES: usize = 44;
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const ENABLED: u32 = 1;

/// A CPU that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// The ACPI processor UID.
    pub uid: u32,
    /// The local APIC's number.
    pub apic_id: u8,
}

/// The multiple APIC description table, its checksum verified.
pub struct Madt<'a>(&'a [u8]);

impl<'a> Madt<'a> {
    /// Finds the table from the root pointer at physical address `rsdp`. `None` if there is no
    /// root pointer, no such table, or one whose checksum is wrong.
    pub fn find(memory: &'a impl PhysicalMemory, rsdp: u64) -> Option<Self> {
        let pointer = memory.bytes(rsdp, 20)?;
        if !pointer.starts_with(b"RSD PTR ") || !sums_to_zero(pointer) {
            return None;
        }
        let extended = (pointer[15] >= 2)
            .then(|| memory.bytes(rsdp, HEADER_LEN))
            .flatten()
            .filter(|pointer| sums_to_zero(pointer))
            .and_then(|pointer| le64(pointer, 24))
            .and_then(|xsdt| table(memory, xsdt, b"XSDT"));
        let (root, wide) = match extended {
            Some(xsdt) => (xsdt, true),
            None => (table(memory, le32(pointer, 16)?.into(), b"RSDT")?, false),
        };
        root[HEADER_LEN..]
            .chunks_exact(if wide { 8 } else { 4 })
            .filter_map(|entry| if wide { le64(entry, 0) } else { le32(entry, 0).map(u64::from) })
            .find_map(|address| table(memory, address, b"APIC"))
            .map(Self)
    }

    /// The enabled CPUs with a local APIC, in the table's order. Those that only x2APIC mode can
    /// address (entries of type 9) are left out, as Limine does without that mode.
    pub fn processors(&self) -> impl Iterator<Item = Processor> {
        self.entries().filter_map(|(kind, body)| {
            let enabled = kind == LOCAL_APIC && le32(body, 4)? & ENABLED != 0;
            enabled.then(|| Processor { uid: body[2].into(), apic_id: body[3] })
        })
    }

    /// The physical addresses of the I/O APICs' registers.
    pub fn io_apics(&self) -> impl Iterator<Item = u64> {
        self.entries().filter_map(|(kind, body)| (kind == IO_APIC).then(|| le32(body, 4))?.map(u64::from))
    }

    /// The entries as (type, whole entry), up to the first whose length cannot be right.
    fn entries(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.0.get(MADT_ENTRIES..).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let len = usize::from(*rest.get(1)?);
            let entry = rest.get(..len).filter(|entry| entry.len() >= 2)?;
            rest = &rest[len..];
            Some((entry[0], entry))
        })
    }
}

/// The table with `signature` at `address`, whole, if it is there and its bytes sum to 0.
fn table<'a>(memory: &'a impl PhysicalMemory, address: u64, signature: &[u8; 4]) -> Option<&'a [u8]> {
    let header = memory.bytes(address, HEADER_LEN)?;
    let len = usize::try_from(le32(header, 4)?).ok()?;
    if &header[..4] != signature || len < HEADER_LEN {
        return None;
    }
    memory.bytes(address, len).filter(|table| sums_to_zero(table))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physical::tests::Pieces;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn summed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        bytes
    }

    fn acpi_table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..4].copy_from_slice(signature);
        bytes[4..8].copy_from_slice(&((HEADER_LEN + body.len()) as u32).to_le_bytes());
        bytes.extend(body);
        summed(bytes, 9)
    }

    fn madt() -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
        body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        body.extend([0, 8, 1, 2, 0, 0, 0, 0]);
        body.extend([0, 8, 7, 4, 1, 0, 0, 0]);
        acpi_table(b"APIC", &body)
    }

    /// A machine with an RSDT (revision 0) or an XSDT (revision 2).
    fn machine(revision: u8) -> Pieces {
        let mut pointer = vec![0; 36];
        pointer[..8].copy_from_slice(b"RSD PTR ");
        pointer[15] = revision;
        pointer[17] = 0x20;
        pointer[25] = 0x30;
        let short = summed(pointer[..20].to_vec(), 8);
        pointer[..20].copy_from_slice(&short);
        Pieces(vec![
            (0x1000, summed(pointer, 32)),
            (0x2000, acpi_table(b"RSDT", &[0, 0x50, 0, 0, 0, 0x40, 0, 0])),
            (0x3000, acpi_table(b"XSDT", &[0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0])),
            (0x4000, madt()),
            (0x5000, acpi_table(b"FACP", &[0; 20])),
        ])
    }

    #[test]
    fn finds_enabled_processors_by_either_root() {
        for revision in [0, 2] {
            let memory = machine(revision);
            let madt = Madt::find(&memory, 0x1000).expect("a MADT");
            let processors: Vec<_> = madt.processors().map(|p| (p.uid, p.apic_id)).collect();
            assert_eq!(processors, [(0, 0), (7, 4)], "revision {revision}");
            assert_eq!(madt.io_apics().collect::<Vec<_>>(), [0xfec0_0000]);
        }
    }

    #[test]
    fn a_wrong_checksum_is_no_table() {
        for piece in [0, 1, 3] {
            let mut memory = machine(0);
            memory.0[piece].1[10] ^= 1;
            assert!(Madt::find(&memory, 0x1000).is_none(), "piece {piece}");
        }
        let mut memory = machine(2);
        memory.0[2].1[10] ^= 1;
        assert!(Madt::find(&memory, 0x1000).is_some(), "the RSDT stands in for a broken XSDT");
        assert!(Madt::find(&memory, 0).is_none());
    }

    proptest! {
        #[test]
        fn entries_of_any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let madt = Madt(&bytes);
            prop_assert!(madt.processors().count() * 8 <= bytes.len());
            prop_assert!(madt.io_apics().count() * 8 <= bytes.len());
        }
    }
}
