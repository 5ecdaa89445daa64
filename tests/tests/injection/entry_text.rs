//! The entry code of the linked kernel, instruction by instruction.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use tests::guest::Guest;

/// Gates, vectors, stubs and exit.
#[derive(Debug)]
pub(crate) struct EntryText(BTreeMap<u64, Mnemonic>);

impl EntryText {
    /// Decodes what lies between the kernel's labels; what fills gaps is left out.
    pub(crate) fn of(guest: &Guest) -> Result<Self> {
        let file = std::fs::read(guest.system().kernel())?;
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&file)?;
        let mut instructions = BTreeMap::new();
        for (from, to) in [("__text_start", "__gates_end"), ("__entry_start", "__entry_end")] {
            let (from, to) = (guest.linker_symbol(from)?, guest.linker_symbol(to)?);
            let segments = elf.segments().context("no segments")?;
            let within = |base: u64, bytes: u64| (base..base + bytes).contains(&from);
            let segment = segments.iter().find(|segment| within(segment.p_vaddr, segment.p_filesz));
            let segment = segment.context("the entry text is in no segment")?;
            let start = usize::try_from(segment.p_offset + (from - segment.p_vaddr))?;
            let bytes = file.get(start..start + usize::try_from(to - from)?).context("the file is cut")?;
            for instruction in Decoder::with_ip(64, bytes, from, DecoderOptions::NONE) {
                ensure!(!instruction.is_invalid(), "no instruction at {:#x}", instruction.ip());
                if !matches!(instruction.mnemonic(), Mnemonic::Int3 | Mnemonic::Nop) {
                    instructions.insert(instruction.ip(), instruction.mnemonic());
                }
            }
        }
        Ok(Self(instructions))
    }

    /// All addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// What stands at an address, if an instruction of the entry code does.
    pub(crate) fn at(&self, address: u64) -> Option<Mnemonic> {
        self.0.get(&address).copied()
    }

    /// The first instruction of a kind.
    pub(crate) fn first(&self, mnemonic: Mnemonic) -> Result<u64> {
        let found = self.0.iter().find(|(_, at)| **at == mnemonic);
        found.map(|(address, _)| *address).with_context(|| format!("no {mnemonic:?} in the entry text"))
    }

    /// The instruction behind the first one of a kind from an address on.
    pub(crate) fn behind(&self, from: u64, mnemonic: Mnemonic) -> Result<u64> {
        let found = self.next(from, mnemonic)?;
        let next = self.0.range(found + 1..).next();
        next.map(|(address, _)| *address).with_context(|| format!("nothing behind {found:#x}"))
    }

    /// The first instruction of a kind from an address on.
    pub(crate) fn next(&self, from: u64, mnemonic: Mnemonic) -> Result<u64> {
        let found = self.0.range(from..).find(|(_, at)| **at == mnemonic);
        found.map(|(address, _)| *address).with_context(|| format!("no {mnemonic:?} behind {from:#x}"))
    }
}
