//! The linked kernel's text, at every byte offset: a domain can jump to any of them.

use anyhow::{Context, Result, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use image::system::System;
use image::workspace::Workspace;

/// Opcodes that would lift a domain over its wall, with those values of the ModRM byte's register field that count. The
/// others are #UD (CR1, CR5 to CR7; DR4 and DR5, since CR4.DE is set) or harmless (CR2).
const FORBIDDEN: &[(&str, [u8; 2], &[u8])] = &[
    ("MOV to a control register", [0x0f, 0x22], &[0, 3, 4]),
    ("MOV to a debug register", [0x0f, 0x23], &[0, 1, 2, 3, 6, 7]),
    ("LLDT or LTR", [0x0f, 0x00], &[2, 3]),
    ("LGDT, LIDT or LMSW", [0x0f, 0x01], &[2, 3, 6]),
];

/// The text that stays mapped writes MSRs at the listed sites alone, each with its check behind it, and holds no
/// instruction that changes control registers or descriptor tables: these are in the text of bring-up and in the vault.
#[test]
fn text_writes_msrs_at_listed_sites_alone() -> Result<()> {
    let workspace = Workspace::find()?;
    let system = System::build(&workspace, &workspace.system_manifest())?;
    let bytes = std::fs::read(system.kernel())?;
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
    ensure!(listed.len() >= 10, "only {} sites are listed", listed.len());

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
