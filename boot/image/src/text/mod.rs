//! Frees the text of what runs in ring 0 from instructions that came about by accident.
//!
//! Whoever can jump can jump to any byte of executable memory, so an escape (`libpks::verify`) counts that begins in the
//! middle of another instruction. What the compiler means is another instruction, and that one can be written
//! differently ([`recode`]) or get another displacement ([`build`]).

mod detour;
mod recode;
mod variation;

use std::path::Path;

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{SHF_EXECINSTR, STT_FUNC};
use elf::endian::LittleEndian;
use libpks::verify::{self, Finding};

pub use variation::{Variation, clean};

/// A function's place in memory.
struct Function {
    name: String,
    address: u64,
    bytes: u64,
}

/// An executable section.
struct Section {
    address: u64,
    file: std::ops::Range<usize>,
}

/// An executable, its text and the functions in it.
pub struct Text {
    bytes: Vec<u8>,
    sections: Vec<Section>,
    functions: Vec<Function>,
    /// Nothing is changed below this address.
    fixed_below: u64,
}

impl Text {
    /// Reads an ELF file with symbols. Of its executable sections those count that `wanted` says.
    ///
    /// # Errors
    /// When the file cannot be read, is no ELF file, or has no symbols.
    pub fn read(path: &Path, wanted_fn: impl Fn(&str) -> bool) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(bytes, wanted_fn).with_context(|| format!("in {}", path.display()))
    }

    fn parse(bytes: Vec<u8>, wanted_fn: impl Fn(&str) -> bool) -> Result<Self> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
        let (headers, names) = file.section_headers_with_strtab()?;
        let (headers, names) = headers.zip(names).context("no sections")?;
        let mut sections = Vec::new();
        for header in headers {
            let name = names.get(header.sh_name as usize)?;
            if header.sh_flags & u64::from(SHF_EXECINSTR) != 0 && wanted_fn(name) {
                let start = usize::try_from(header.sh_offset)?;
                let file = start..start + usize::try_from(header.sh_size)?;
                bytes.get(file.clone()).context("a section beyond the end of the file")?;
                sections.push(Section { address: header.sh_addr, file });
            }
        }
        let (symbols, names) = file.symbol_table()?.context("no symbols")?;
        let functions = symbols.iter().filter(|symbol| symbol.st_symtype() == STT_FUNC && symbol.st_size > 0);
        let functions = functions.map(|symbol| {
            let name = names.get(symbol.st_name as usize).unwrap_or("?");
            let name = format!("{:#}", rustc_demangle::demangle(name));
            Function { name, address: symbol.st_value, bytes: symbol.st_size }
        });
        let functions = functions.collect();
        Ok(Self { bytes, sections, functions, fixed_below: 0 })
    }

    /// Function and offset of an address, for a person.
    #[must_use]
    pub fn place(&self, address: u64) -> String {
        match self.function_at(address) {
            Some(function) => format!("{}+{:#x}", function.name, address - function.address),
            None => format!("{address:#x}"),
        }
    }

    /// Each function that lies in the text, with the address of its first byte.
    pub fn functions(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.functions.iter().filter_map(|function| Some((function.address, self.code(function)?)))
    }

    /// All escapes in the text, at addresses.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        self.sections.iter().flat_map(|section| {
            let found = verify::findings(&self.bytes[section.file.clone()]);
            found.map(|finding| Finding { offset: section.address + finding.offset, ..finding })
        })
    }

    /// The whole file.
    #[must_use]
    pub fn file(&self) -> &[u8] {
        &self.bytes
    }

    /// Leaves everything below an address as it is.
    #[must_use]
    pub fn fixed_below(self, address: u64) -> Self {
        Self { fixed_below: address, ..self }
    }

    /// Changes an instruction that a finding touches, so that the finding is gone and none has come; gives whether there
    /// is one that can be changed. The program does the same as before, and no instruction of a function has moved.
    pub fn mend(&mut self, finding: Finding) -> bool {
        let Some(function) = self.function_at(finding.offset) else { return false };
        let start = function.address;
        if start < self.fixed_below {
            return false;
        }
        let Some(code) = self.code(function) else { return false };
        let touched = recode::touched(code, start, finding);
        let twin = touched.iter().find_map(|(offset, instruction)| recode::twin(code, *offset, instruction));
        if let Some(change) = twin {
            return self.put(start + change.offset as u64, &change.bytes);
        }
        let detour = touched.iter().find_map(|(offset, instruction)| {
            let through = |(gap, room)| Some((gap, detour::through(code, *offset, instruction, gap, room)?));
            self.gaps().find_map(through)
        });
        let Some((gap, (change, in_gap))) = detour else { return false };
        self.put(gap, &in_gap) && self.put(start + change.offset as u64, &change.bytes)
    }

    fn put(&mut self, address: u64, bytes: &[u8]) -> bool {
        let place = self.file_offset(address).and_then(|at| self.bytes.get_mut(at..at + bytes.len()));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }

    /// Places between functions that nothing is in, and how many bytes there are.
    fn gaps(&self) -> impl Iterator<Item = (u64, usize)> {
        let mut ends: Vec<_> =
            self.functions.iter().map(|function| function.address + function.bytes).collect();
        ends.sort_unstable();
        ends.into_iter().filter(|end| *end >= self.fixed_below).filter_map(|end| {
            let bytes = self.file_offset(end).and_then(|at| self.bytes.get(at..))?;
            let is_free =
                |n: &u64| self.file_offset(end + n).is_some() && self.function_at(end + n).is_none();
            let filled = bytes.iter().take(detour::LONGEST).take_while(|byte| **byte == verify::FILL).count();
            let room = (0..filled as u64).take_while(is_free).count();
            Some((end, room)).filter(|(_, room)| *room > 0)
        })
    }

    fn function_at(&self, address: u64) -> Option<&Function> {
        let covers =
            |function: &&Function| (function.address..function.address + function.bytes).contains(&address);
        self.functions.iter().find(covers)
    }

    fn code(&self, function: &Function) -> Option<&[u8]> {
        let start = self.file_offset(function.address)?;
        let end = self.file_offset(function.address + function.bytes - 1)?;
        self.bytes.get(start..=end)
    }

    /// Where the byte at an address is in the file, if it is text.
    fn file_offset(&self, address: u64) -> Option<usize> {
        self.sections.iter().find_map(|section| {
            let offset = usize::try_from(address.checked_sub(section.address)?).ok()?;
            (offset < section.file.len()).then_some(section.file.start + offset)
        })
    }
}
