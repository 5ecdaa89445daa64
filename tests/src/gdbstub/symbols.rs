//! Addresses of what was linked.

use std::path::Path;

use anyhow::{Context, Result, bail};
use elf::ElfBytes;
use elf::endian::LittleEndian;

/// The value of a symbol of an ELF file that is not mangled.
///
/// # Errors
/// When there is none.
pub fn symbol(file: &Path, name: &str) -> Result<u64> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let parsed = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = parsed.symbol_table()?.context("no symbols")?;
    let found =
        symbols.iter().find(|symbol| names.get(symbol.st_name as usize).is_ok_and(|found| found == name));
    found.map(|symbol| symbol.st_value).with_context(|| format!("no symbol {name} in {}", file.display()))
}

/// The address of the function of an ELF file whose symbol has a path that ends like this, such as `exit::trap_exit`.
///
/// # Errors
/// When there is not exactly one.
pub fn function(file: &Path, path: &str) -> Result<u64> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let parsed = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = parsed.symbol_table()?.context("no symbols")?;
    // Mangled, each part of a path is preceded by its length.
    let mangled: String = path.split("::").map(|part| format!("{}{part}", part.len())).collect();
    let found: Vec<u64> = symbols
        .iter()
        .filter(|symbol| names.get(symbol.st_name as usize).is_ok_and(|name| name.contains(&mangled)))
        .map(|symbol| symbol.st_value)
        .collect();
    match found[..] {
        [address] => Ok(address),
        _ => bail!("{} symbols like {path} in {}", found.len(), file.display()),
    }
}
