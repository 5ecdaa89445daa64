//! Builds the kernel so that its text holds no instruction that lifts a domain over its wall.
//!
//! Domains run in ring 0 and can jump to any byte of the kernel's text, so an instruction counts that begins in the
//! middle of another, or in a displacement. Such bytes come about by accident now and then; another order of the
//! functions has other displacements, so the kernel is linked anew until its text is clean.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;

use crate::guest::Guest;
use crate::workspace::Workspace;

/// Tells the kernel's build script in which order to link; see there.
const SEED_VARIABLE: &str = "PORTCULLIS_LINK_SEED";
/// How many orders are tried.
const ORDERS: u32 = 32;

/// Opcodes that would lift a domain over its wall, with those values of the ModRM byte's register field that count. The
/// others are #UD (CR1, CR5 to CR7; DR4 and DR5, since CR4.DE is set) or harmless (CR2).
const FORBIDDEN: &[(&str, [u8; 2], &[u8])] = &[
    ("MOV to a control register", [0x0f, 0x22], &[0, 3, 4]),
    ("MOV to a debug register", [0x0f, 0x23], &[0, 1, 2, 3, 6, 7]),
    ("LLDT or LTR", [0x0f, 0x00], &[2, 3]),
    ("LGDT, LIDT or LMSW", [0x0f, 0x01], &[2, 3, 6]),
];

/// Builds the kernel; gives its executable. The order that was clean is remembered for the next time. A kernel with
/// features is for tests of what it does, not of its text, and is taken as it comes.
///
/// # Errors
/// When cargo fails, or no order is clean; the last finding is named.
pub fn build(guest: &Guest<'_>, workspace: &Workspace, features: &[&str]) -> Result<PathBuf> {
    if !features.is_empty() {
        return guest.build_with("kernel", features, &[]);
    }
    let memory = workspace.target().join("kernel-link-seed");
    let remembered = std::fs::read_to_string(&memory).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let first = remembered.unwrap_or(0);
    for seed in (0..ORDERS).map(|n| (first + n) % ORDERS) {
        let kernel = guest.build_with("kernel", features, &[(SEED_VARIABLE, seed.to_string())])?;
        match check(&kernel) {
            Ok(()) => {
                std::fs::write(&memory, seed.to_string()).context("remembering the kernel's link order")?;
                return Ok(kernel);
            }
            Err(finding) => eprintln!("image: linking the kernel in another order: {finding}"),
        }
    }
    bail!("in {ORDERS} orders of linking the kernel's text was never clean")
}

/// Checks the text that stays mapped, at every byte offset: it writes MSRs at the listed sites alone, each with its check
/// behind it, and holds no instruction that changes control registers or descriptor tables (these are in the text of
/// bring-up and in the vault).
///
/// # Errors
/// The first finding, or what is wrong with the file.
pub fn check(kernel: &Path) -> Result<()> {
    let bytes = std::fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = file.symbol_table()?.context("no symbols")?;
    let symbol = |wanted: &str| {
        let found =
            symbols.iter().find(|symbol| names.get(symbol.st_name as usize).is_ok_and(|name| name == wanted));
        found.map(|symbol| symbol.st_value).with_context(|| format!("no symbol {wanted}"))
    };
    let section = |name: &str| -> Result<(u64, &[u8])> {
        let header = file.section_header_by_name(name)?.with_context(|| format!("no section {name}"))?;
        Ok((header.sh_addr, file.section_data(&header)?.0))
    };
    let (text_at, text) = section(".text")?;
    let (rodata_at, rodata) = section(".rodata")?;
    let offset = |name| anyhow::Ok(usize::try_from(symbol(name)? - rodata_at)?);
    let table = rodata.get(offset("__pkrs_writes")?..offset("__pkrs_writes_end")?).context("no table")?;
    let mut listed: Vec<u64> =
        table.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect();
    listed.sort_unstable();
    scan(text_at, text, &listed)
}

/// Checks text that lies at an address; `listed` are the addresses of its WRMSRs, ascending.
fn scan(text_at: u64, text: &[u8], listed: &[u64]) -> Result<()> {
    let places = |opcode: [u8; 2]| {
        let at = text.windows(2).enumerate().filter(move |(_, pair)| **pair == opcode);
        at.map(|(n, _)| (n, text_at + n as u64))
    };
    let found: Vec<u64> = places([0x0f, 0x30]).map(|(_, at)| at).collect();
    ensure!(found == listed, "WRMSR at {found:#x?}, listed are {listed:#x?}");
    for &(what, opcode, fields) in FORBIDDEN {
        for (n, at) in places(opcode) {
            let field = text.get(n + 2).map(|modrm| modrm >> 3 & 7);
            ensure!(!field.is_some_and(|field| fields.contains(&field)), "{what} at {at:#x}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MOV EAX, imm32 with bytes of the test's choice, a listed WRMSR, RET.
    fn text(immediate: [u8; 4]) -> Vec<u8> {
        [&[0xb8][..], &immediate, &[0x0f, 0x30, 0xc3]].concat()
    }

    fn finding(immediate: [u8; 4], listed: &[u64]) -> String {
        scan(0x1000, &text(immediate), listed).map_or_else(|error| error.to_string(), |()| "clean".into())
    }

    #[test]
    fn finds_instructions_in_the_middle_of_others() {
        assert_eq!(finding([1, 2, 3, 4], &[0x1005]), "clean");
        assert_eq!(finding([0x0f, 0x22, 0xd8, 0], &[0x1005]), "MOV to a control register at 0x1001");
        assert_eq!(finding([0, 0x0f, 0x01, 0x10], &[0x1005]), "LGDT, LIDT or LMSW at 0x1002");
        assert_eq!(finding([0x0f, 0x22, 0xd0, 0], &[0x1005]), "clean", "CR2 is harmless");
        assert!(finding([0x0f, 0x30, 0, 0], &[0x1005]).starts_with("WRMSR"));
        assert!(finding([0; 4], &[]).starts_with("WRMSR"), "one that is not listed");
        assert!(finding([0; 4], &[0x1005, 0x1006]).starts_with("WRMSR"), "one that is listed but not there");
    }
}
