//! `image doctor`: which tools are here, and what is missing.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::guest::Toolchain;
use crate::limine::Limine;
use crate::qemu::{Firmware, PROGRAM};
use crate::workspace::Workspace;
use crate::{manifest, tool};

/// A row: what was looked at, what was found, and whether the project can do without.
struct Finding {
    topic: &'static str,
    found: Result<String>,
    needed: bool,
}

/// Prints a row for each tool; gives the exit code: 1 if something that is needed is missing.
#[must_use]
pub fn report(workspace: &Workspace) -> u8 {
    let findings = [
        needed("rustc", version("rustc", &["--version"])),
        needed("cargo", version("cargo", &["--version"])),
        needed("guest toolchain", Toolchain::detect().map(|toolchain| toolchain.describe())),
        needed("strip", version("strip", &["--version"])),
        needed("QEMU", version(PROGRAM, &["--version"])),
        needed("protection keys", protection_keys()),
        needed("manifest", check_manifest(workspace)),
        wanted("just", version("just", &["--version"])),
        wanted("xorriso", version("xorriso", &["--version"])),
        wanted("Limine", Limine::find().map(|it| it.dir().display().to_string()).map_err(Into::into)),
        wanted("UEFI firmware", firmware()),
        wanted("gdb", version("gdb", &["--version"])),
    ];
    for finding in &findings {
        println!("{}", finding.line());
    }
    u8::from(findings.iter().any(|finding| finding.needed && finding.found.is_err()))
}

fn needed(topic: &'static str, found: Result<String>) -> Finding {
    Finding { topic, found, needed: true }
}

fn wanted(topic: &'static str, found: Result<String>) -> Finding {
    Finding { topic, found, needed: false }
}

impl Finding {
    fn line(&self) -> String {
        match (&self.found, self.needed) {
            (Ok(text), _) => format!("  ok       {:16} {text}", self.topic),
            (Err(error), true) => format!("  MISSING  {:16} {error:#}", self.topic),
            (Err(error), false) => format!("  without  {:16} {error:#}", self.topic),
        }
    }
}

fn version(program: &str, arguments: &[&str]) -> Result<String> {
    let said = tool::output(Command::new(program).args(arguments))?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn check_manifest(workspace: &Workspace) -> Result<String> {
    let manifest = manifest::load(&workspace.system_manifest())?;
    let names: Vec<_> = manifest.servers.iter().map(|server| server.name.as_str()).collect();
    Ok(format!("boot/system.toml: {}", names.join(", ")))
}

fn firmware() -> Result<String> {
    let file = Firmware::installed().context("no OVMF (Debian package ovmf)")?;
    Ok(file.display().to_string())
}

/// Asks QEMU for a CPU with PKS: with `enforce` it refuses a feature that it cannot emulate.
fn protection_keys() -> Result<String> {
    let mut qemu = Command::new(PROGRAM);
    qemu.args(["-machine", "q35", "-accel", "tcg", "-nodefaults", "-display", "none", "-S"]);
    // Started stopped, and ended at once by the monitor reading its input.
    qemu.args(["-monitor", "stdio", "-cpu", "qemu64,+pks,enforce"]);
    qemu.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = qemu.spawn().with_context(|| tool::cannot_start(PROGRAM))?;
    // It fails when QEMU has ended already; then the exit status says why.
    let _ = child.stdin.take().map(|mut monitor| monitor.write_all(b"quit\n"));
    let done = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "QEMU cannot emulate PKS: {}", said.trim());
    Ok("emulated by QEMU".into())
}
