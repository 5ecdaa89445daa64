//! Running other programs, their arguments never seen by a shell.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The Debian package that has a program, for error messages.
fn package_of(program: &str) -> &str {
    match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "strip" => "binutils",
        "cc" => "gcc",
        other => other,
    }
}

/// Finds `program` in `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs `command` without input and with its output kept; gives what it wrote to standard output.
///
/// # Errors
/// When it cannot be started (the message names the Debian package), or fails (the message has
/// what it wrote).
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().with_context(|| cannot_start(&name))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{name} failed ({}):\n{}", done.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs `command` with its output going where ours goes.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(&name))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// The message for a program that does not start.
#[must_use]
pub fn cannot_start(program: &str) -> String {
    format!("cannot start {program} (Debian package {})", package_of(program))
}

/// A command in one line for a person to read; not quoted for a shell.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
