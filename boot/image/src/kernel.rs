//! Builds the kernel so that its text holds no instruction that lifts a domain over its wall, but for the listed ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use libpks::verify::{Escape, Finding};

use crate::guest::Guest;
use crate::text::{self, Text};
use crate::workspace::Workspace;

/// Builds the kernel; gives its executable. A kernel with features is for tests of what it does, not of its text, and is
/// taken as it comes.
///
/// # Errors
/// When cargo fails, when its WRMSRs are not the listed ones, or when accidental instructions stay whatever is tried.
pub fn build(guest: &Guest<'_>, workspace: &Workspace, features: &[&str]) -> Result<PathBuf> {
    let built = guest.build_with("kernel", features)?;
    if !features.is_empty() {
        return Ok(built);
    }
    text::clean(guest, workspace, "kernel", &built, read, unlisted)
}

/// Checks the text that stays mapped, at every byte offset: it writes MSRs at the listed sites alone, each with its check
/// behind it, and holds no instruction that changes control registers or descriptor tables (these are in the text of
/// bring-up and in the vault).
///
/// # Errors
/// The first finding, or what is wrong with the file.
pub fn check(kernel: &Path) -> Result<()> {
    let text = read(kernel)?;
    match unlisted(&text)?.first() {
        Some(finding) => bail!("{} in {}", finding.escape, text.place(finding.offset)),
        None => Ok(()),
    }
}

/// Reads the text that stays mapped. The entry code is not to be changed: it is what was written.
fn read(kernel: &Path) -> Result<Text> {
    let text = Text::read(kernel, |section| section == ".text")?;
    let entry_end = symbol(&ElfBytes::minimal_parse(text.file())?, "__entry_end")?;
    Ok(text.fixed_below(entry_end))
}

/// The value of a symbol.
fn symbol(file: &ElfBytes<'_, LittleEndian>, wanted: &str) -> Result<u64> {
    let (symbols, names) = file.symbol_table()?.context("no symbols")?;
    let is_wanted = |name: u32| names.get(name as usize).is_ok_and(|name| name == wanted);
    let found = symbols.iter().find(|symbol| is_wanted(symbol.st_name));
    found.map(|symbol| symbol.st_value).with_context(|| format!("no symbol {wanted}"))
}

/// The escapes in a kernel's text that are none of its listed WRMSRs.
fn unlisted(text: &Text) -> Result<Vec<Finding>> {
    let listed = listed(text.file())?;
    apart(text.findings(), &listed)
}

/// Where the WRMSRs of PKRS are by the kernel's own table.
fn listed(file: &[u8]) -> Result<Vec<u64>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let header = file.section_header_by_name(".rodata")?.context("no section .rodata")?;
    let rodata = file.section_data(&header)?.0;
    let offset = |name| anyhow::Ok(usize::try_from(symbol(&file, name)? - header.sh_addr)?);
    let table = rodata.get(offset("__pkrs_writes")?..offset("__pkrs_writes_end")?).context("no table")?;
    let sites = table.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
    // Behind the prefix that each of them has.
    Ok(sites.map(|site| site + 1).collect())
}

/// The findings without the listed WRMSRs, each of which must be there.
fn apart(findings: impl Iterator<Item = Finding>, listed: &[u64]) -> Result<Vec<Finding>> {
    let is_listed = |finding: &Finding| finding.escape == Escape::Msr && listed.contains(&finding.offset);
    let (meant, others): (Vec<_>, Vec<_>) = findings.partition(is_listed);
    let lost = listed.iter().find(|address| !meant.iter().any(|finding| finding.offset == **address));
    ensure!(lost.is_none(), "no WRMSR at {lost:#x?}, which is listed");
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libpks::verify;

    /// MOV EAX, imm32 with bytes of the test's choice, a listed WRMSR, RET.
    fn text(immediate: [u8; 4]) -> Vec<u8> {
        [&[0xb8][..], &immediate, &[0x0f, 0x30, 0xc3]].concat()
    }

    fn found(immediate: [u8; 4], listed: &[u64]) -> Result<Vec<(u64, Escape)>> {
        let found = apart(verify::findings(&text(immediate)), listed)?;
        Ok(found.into_iter().map(|finding| (finding.offset, finding.escape)).collect())
    }

    #[test]
    fn finds_instructions_in_the_middle_of_others() -> Result<()> {
        assert_eq!(found([1, 2, 3, 4], &[5])?, []);
        assert_eq!(found([0x0f, 0x22, 0xd8, 0], &[5])?, [(1, Escape::ControlRegister)]);
        assert_eq!(found([0, 0x0f, 0x01, 0x10], &[5])?, [(2, Escape::DescriptorTable)]);
        assert_eq!(found([0x0f, 0x22, 0xd0, 0], &[5])?, [], "CR2 is harmless");
        assert_eq!(found([0x0f, 0x30, 0, 0], &[5])?, [(1, Escape::Msr)]);
        assert_eq!(found([0; 4], &[])?, [(5, Escape::Msr)], "one that is not listed");
        assert!(found([0; 4], &[5, 6]).is_err(), "one that is listed but not there");
        Ok(())
    }
}
