//! Real Limine binaries: where they are, and the configuration that they read.
//!
//! The project ships none. They are looked for in `$LIMINE_DIR`, then where distributions and
//! `make install` put them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::system::System;
use crate::{tool, workspace::Workspace};

/// What an ISO for BIOS and UEFI needs.
const FILES: [&str; 4] = ["limine-bios.sys", "limine-bios-cd.bin", "limine-uefi-cd.bin", "BOOTX64.EFI"];
/// Where installed copies are, after `$LIMINE_DIR`.
const PLACES: [&str; 4] =
    ["/usr/share/limine", "/usr/share/limine/bin", "/usr/local/share/limine", "/usr/lib/limine"];

/// A directory with Limine's binaries.
#[derive(Debug, Clone)]
pub struct Limine {
    dir: PathBuf,
}

/// No directory has all of Limine's files.
#[derive(Debug, thiserror::Error)]
#[error(
    "no Limine here; looked for {} in:\n{}\nset LIMINE_DIR to a directory with Limine's binary release (8.x), \
     or use loader=direct",
    FILES.join(", "),
    .looked.join("\n")
)]
pub struct NotFound {
    looked: Vec<String>,
}

impl Limine {
    /// Finds Limine.
    ///
    /// # Errors
    /// [`NotFound`], naming each place and what it lacks.
    pub fn find() -> Result<Self, NotFound> {
        let dirs = std::env::var_os("LIMINE_DIR").map(PathBuf::from);
        Self::find_in(dirs.iter().map(PathBuf::as_path).chain(PLACES.map(Path::new)))
    }

    fn find_in<'a>(dirs: impl Iterator<Item = &'a Path>) -> Result<Self, NotFound> {
        let mut looked = Vec::new();
        for dir in dirs {
            let missing: Vec<_> = FILES.into_iter().filter(|file| !dir.join(file).is_file()).collect();
            if missing.is_empty() {
                return Ok(Self { dir: dir.to_owned() });
            }
            let what = match dir.is_dir() {
                true => format!("lacks {}", missing.join(", ")),
                false => "no such directory".to_owned(),
            };
            looked.push(format!("  {}: {what}", dir.display()));
        }
        Err(NotFound { looked })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes Limine's BIOS stages into the ISO file's first sectors, so that it also boots as a
    /// disk, such as a USB stick. UEFI needs nothing of the kind.
    ///
    /// # Errors
    /// When there is neither a `limine` program nor `limine.c` with a C compiler, or it fails.
    pub fn bios_install(&self, workspace: &Workspace, iso: &Path) -> Result<()> {
        let program = self.installer(workspace)?;
        tool::output(Command::new(program).arg("bios-install").arg(iso)).map(|_| ())
    }

    fn installer(&self, workspace: &Workspace) -> Result<PathBuf> {
        let near =
            [self.dir.join("limine"), self.dir.join("../bin/limine"), self.dir.join("../../bin/limine")];
        if let Some(found) = near.into_iter().find(|file| file.is_file()) {
            return Ok(found);
        }
        let source = self.dir.join("limine.c");
        if source.is_file() && self.dir.join("limine-bios-hdd.h").is_file() {
            return self.compile_installer(workspace, &source);
        }
        tool::find("limine").with_context(|| {
            let dir = self.dir.display();
            format!(
                "to make the ISO bootable from a USB stick: no `limine` or limine.c in {dir}, nor in PATH"
            )
        })
    }

    fn compile_installer(&self, workspace: &Workspace, source: &Path) -> Result<PathBuf> {
        let out = workspace.output().join("limine-install");
        let newer = |file: &Path| file.metadata().and_then(|meta| meta.modified()).ok();
        let inputs = [source.to_owned(), self.dir.join("limine-bios-hdd.h")];
        if inputs.iter().all(|input| newer(&out) > newer(input)) {
            return Ok(out);
        }
        std::fs::create_dir_all(workspace.output())?;
        // Under another name first: several builds may run at once.
        let fresh = tempfile::NamedTempFile::new_in(workspace.output())?.into_temp_path();
        tool::output(Command::new("cc").args(["-O2", "-std=c99", "-o"]).arg(&fresh).arg(source))?;
        fresh.persist(&out)?;
        Ok(out)
    }
}

/// The text of `limine.conf` that boots `system` with the kernel command line `cmdline`.
///
/// # Errors
/// For a command line that Limine would change: with a line break, or with blanks at its ends.
pub fn config(system: &System, cmdline: &str) -> Result<String> {
    ensure!(!cmdline.contains(['\n', '\r', '\0']), "the kernel command line must be one line: {cmdline:?}");
    if cmdline.trim() != cmdline {
        bail!("Limine would strip the blanks at the ends of the kernel command line {cmdline:?}");
    }
    // `${NAME}` is a macro to Limine; one that stands for the dollar keeps the user's text as it is.
    let cmdline = cmdline.replace("${", "${DOLLAR}{");
    let mut text = format!(
        "${{DOLLAR}}=$\ntimeout: 0\nserial: yes\nquiet: yes\n\n/Portcullis\n    protocol: limine\n    \
         kernel_path: boot():{}\n    cmdline: {cmdline}\n",
        System::KERNEL_PATH
    );
    for module in system.modules() {
        text += &format!("    module_path: boot():{}\n    module_cmdline: {}\n", module.path(), module.name);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_it_looked_and_what_was_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILES[0]), "").expect("a file");
        let places = [dir.path(), Path::new("/nowhere/limine")];
        let message = Limine::find_in(places.into_iter()).expect_err("incomplete").to_string();
        assert!(
            message.contains(&format!("{}: lacks limine-bios-cd.bin", dir.path().display())),
            "{message}"
        );
        assert!(message.contains("/nowhere/limine: no such directory"), "{message}");
        for file in FILES {
            std::fs::write(dir.path().join(file), "").expect("a file");
        }
        assert_eq!(Limine::find_in(places.into_iter()).expect("complete").dir(), dir.path());
    }

    #[test]
    fn the_command_line_stays_one_value() {
        let system = System::for_tests(&["manifest", "init"]);
        let text = config(&system, "test=x cmd=pks ${ARCH} $(x)").expect("good");
        assert!(text.contains("cmdline: test=x cmd=pks ${DOLLAR}{ARCH} $(x)\n"), "{text}");
        assert!(text.contains("module_path: boot():/boot/init\n    module_cmdline: init\n"), "{text}");
        assert!(config(&system, "a\n/evil").is_err());
        assert!(config(&system, "a ").is_err());
    }
}
