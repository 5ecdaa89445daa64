//! The ISO: boots from CD and from a USB stick, on BIOS and on UEFI machines.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::limine::{self, Limine};
use crate::system::System;
use crate::tool;

/// Writes an ISO with `system` to `out`. [`Limine::bios_install`] then makes it bootable from a
/// stick on BIOS machines too.
///
/// # Errors
/// When a file cannot be copied, xorriso is missing or fails, or the command line cannot be kept.
pub fn write(system: &System, limine: &Limine, cmdline: &str, out: &Path) -> Result<()> {
    let tree = tempfile::tempdir().context("cannot make a directory for the ISO's files")?;
    let root = tree.path();
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        std::fs::create_dir_all(to.parent().unwrap_or(root))?;
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    for file in ["limine-bios.sys", "limine-bios-cd.bin", "limine-uefi-cd.bin"] {
        copy(&limine.dir().join(file), &format!("boot/limine/{file}"))?;
    }
    copy(&limine.dir().join("BOOTX64.EFI"), "EFI/BOOT/BOOTX64.EFI")?;
    copy(system.kernel(), System::KERNEL_PATH.trim_start_matches('/'))?;
    for module in system.modules() {
        copy(&module.file, module.path().trim_start_matches('/'))?;
    }
    std::fs::write(root.join("boot/limine/limine.conf"), limine::config(system, cmdline)?)?;

    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "PORTCULLIS"]);
    xorriso.args(["-b", "boot/limine/limine-bios-cd.bin", "-no-emul-boot", "-boot-load-size", "4"]);
    xorriso.args(["-boot-info-table", "--efi-boot", "boot/limine/limine-uefi-cd.bin", "-efi-boot-part"]);
    xorriso.args(["--efi-boot-image", "--protective-msdos-label"]).arg(root).arg("-o").arg(out);
    tool::output(&mut xorriso).map(|_| ())
}
