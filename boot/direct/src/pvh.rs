//! What QEMU hands a PVH guest: the `hvm_start_info` structure and what it points to.
//!
//! Source: Xen's public header `arch-x86/hvm/start_info.h`, versions 0 and 1; QEMU gives version 1.

use crate::memory_map::Kind;
use crate::physical::{PhysicalMemory, le32, le64};
use core::ffi::CStr;

const MAGIC: u32 = 0x336e_c578;
const START_INFO_LEN: usize = 56;
const MODULE_LEN: usize = 32;
const MAP_ENTRY_LEN: usize = 24;
/// The longest command line in bytes, its NUL included.
const COMMAND_LINE_MAX: usize = 64 * 1024;

/// Why the start information is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PvhError {
    /// The structure is out of reach or has another magic number.
    #[error("no PVH start information at {0:#x} (QEMU overwrites it if -append is longer than 4 KiB)")]
    NoStartInfo(u64),
    /// Version 0, which has no memory map.
    #[error("PVH start information has version {0}, and only 1 and later hold a memory map")]
    Version(u32),
    /// The memory map is absent, empty or out of reach.
    #[error("QEMU gave no memory map")]
    NoMemoryMap,
    /// There is no module: `-initrd` was not given.
    #[error("no bundle: give QEMU one by -initrd")]
    NoBundle,
    /// The bundle's address or size is out of reach.
    #[error("the bundle at {address:#x} with {size} bytes is out of reach")]
    Bundle {
        /// Its physical address.
        address: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// The command line is out of reach, or has no end within 64 KiB.
    #[error("the command line is out of reach or longer than 64 KiB")]
    CommandLine,
}

/// Where something lies in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The physical address of its first byte.
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The start information, checked, with everything that it points to within reach.
pub struct StartInfo<'a> {
    /// The bundle, the first module.
    pub bundle: Extent,
    /// The command line, empty if there is none.
    pub command_line: &'a CStr,
    /// Where it lies, its NUL included; of length 0 if there is none.
    pub command_line_at: Extent,
    /// The ACPI root pointer's physical address, 0 if there is none.
    pub rsdp: u64,
    memory_map: &'a [u8],
}

impl<'a> StartInfo<'a> {
    /// Reads the structure at physical address `address`.
    ///
    /// # Errors
    /// The first mistake that it meets, as [`PvhError`] says.
    pub fn read(memory: &'a impl PhysicalMemory, address: u64) -> Result<Self, PvhError> {
        let absent = PvhError::NoStartInfo(address);
        let info = memory.bytes(address, START_INFO_LEN).ok_or(absent)?;
        let word = |offset| le32(info, offset).ok_or(absent);
        let pointer = |offset| le64(info, offset).ok_or(absent);
        if word(0)? != MAGIC {
            return Err(absent);
        }
        if word(4)? == 0 {
            return Err(PvhError::Version(0));
        }
        let entries = word(48)? as usize;
        let memory_map = entries
            .checked_mul(MAP_ENTRY_LEN)
            .filter(|&len| len != 0)
            .and_then(|len| memory.bytes(le64(info, 40)?, len))
            .ok_or(PvhError::NoMemoryMap)?;
        let command_line = command_line(memory, pointer(24)?)?;
        let len = if pointer(24)? == 0 { 0 } else { command_line.count_bytes() as u64 + 1 };
        Ok(Self {
            bundle: bundle(memory, word(12)?, pointer(16)?)?,
            command_line,
            command_line_at: Extent { address: pointer(24)?, len },
            rsdp: pointer(32)?,
            memory_map,
        })
    }

    /// The firmware's memory map: base, length in bytes, kind.
    pub fn memory_map(&self) -> impl Iterator<Item = (u64, u64, Kind)> {
        self.memory_map
            .chunks_exact(MAP_ENTRY_LEN)
            .filter_map(|entry| Some((le64(entry, 0)?, le64(entry, 8)?, Kind::from_e820(le32(entry, 16)?))))
    }
}

fn bundle(memory: &impl PhysicalMemory, modules: u32, list: u64) -> Result<Extent, PvhError> {
    if modules == 0 {
        return Err(PvhError::NoBundle);
    }
    let entry = memory.bytes(list, MODULE_LEN).ok_or(PvhError::NoBundle)?;
    let (address, size) = le64(entry, 0).zip(le64(entry, 8)).ok_or(PvhError::NoBundle)?;
    usize::try_from(size)
        .ok()
        .filter(|&len| len != 0)
        .and_then(|len| memory.bytes(address, len))
        .ok_or(PvhError::Bundle { address, size })?;
    Ok(Extent { address, len: size })
}

fn command_line(memory: &impl PhysicalMemory, address: u64) -> Result<&CStr, PvhError> {
    if address == 0 {
        return Ok(c"");
    }
    let text = memory.bytes(address, COMMAND_LINE_MAX).ok_or(PvhError::CommandLine)?;
    CStr::from_bytes_until_nul(text).map_err(|_| PvhError::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physical::tests::Pieces;
    use std::vec;
    use std::vec::Vec;

    const AT: u64 = 0x1000;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// start_info at 1000h, module list at 2000h, map at 3000h, text at 4000h, bundle at 8000h.
    fn good() -> Pieces {
        let info = [u64::from(MAGIC) | 1 << 32, 1 << 32, 0x2000, 0x4000, 0xf0000, 0x3000, 2];
        let mut text = vec![0; COMMAND_LINE_MAX];
        text[..6].copy_from_slice(b"test=a");
        Pieces(vec![
            (AT, words(&info)),
            (0x2000, words(&[0x8000_0000, 0x2000, 0, 0])),
            (0x3000, words(&[0, 0x9fc00, 1, 0x9fc00, 0x400, 2])),
            (0x4000, text),
            (0x8000_0000, vec![0; 0x2000]),
        ])
    }

    fn error(change: impl Fn(&mut Pieces)) -> PvhError {
        let mut memory = good();
        change(&mut memory);
        StartInfo::read(&memory, AT).err().expect("broken start information was accepted")
    }

    #[test]
    fn reads_what_qemu_gives() {
        let memory = good();
        let info = StartInfo::read(&memory, AT).expect("good start information");
        assert_eq!(info.bundle, Extent { address: 0x8000_0000, len: 0x2000 });
        assert_eq!(info.command_line, c"test=a");
        assert_eq!(info.command_line_at, Extent { address: 0x4000, len: 7 });
        assert_eq!(info.rsdp, 0xf0000);
        let map: Vec<_> = info.memory_map().collect();
        assert_eq!(map, [(0, 0x9fc00, Kind::Usable), (0x9fc00, 0x400, Kind::Reserved)]);
    }

    #[test]
    fn no_command_line_is_an_empty_one() {
        let mut memory = good();
        memory.0[0].1[24..32].fill(0);
        let info = StartInfo::read(&memory, AT).expect("good start information");
        assert_eq!((info.command_line, info.command_line_at), (c"", Extent { address: 0, len: 0 }));
    }

    #[test]
    fn refuses_what_is_missing() {
        assert_eq!(error(|m| m.0[0].1[0] = 0), PvhError::NoStartInfo(AT));
        assert_eq!(error(|m| m.0[0].0 = 0), PvhError::NoStartInfo(AT));
        assert_eq!(error(|m| m.0[0].1[4] = 0), PvhError::Version(0));
        assert_eq!(error(|m| m.0[0].1[48] = 0), PvhError::NoMemoryMap);
        assert_eq!(error(|m| m.0[0].1[48] = 3), PvhError::NoMemoryMap);
        assert_eq!(error(|m| m.0[0].1[12] = 0), PvhError::NoBundle);
        assert_eq!(
            error(|m| m.0[4].1.truncate(0x1fff)),
            PvhError::Bundle { address: 0x8000_0000, size: 0x2000 }
        );
        assert_eq!(error(|m| m.0[1].1[8..16].fill(0)), PvhError::Bundle { address: 0x8000_0000, size: 0 });
        assert_eq!(error(|m| m.0[3].1.fill(b'x')), PvhError::CommandLine);
    }
}
