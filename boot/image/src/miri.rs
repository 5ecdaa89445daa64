//! `image miri`: the tests of the pure code under Miri, the interpreter that finds undefined behaviour.
//!
//! Miri is a part of nightly Rust only. Where that is missing it is installed, if rustup manages within a time limit;
//! where it does not, the run is skipped and says why. What Miri finds is a failure.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tool;
use crate::workspace::Workspace;

/// Overrides the toolchain that has Miri.
const TOOLCHAIN_VARIABLE: &str = "PORTCULLIS_MIRI_TOOLCHAIN";
/// Seconds that rustup gets for each thing that it has to fetch; as in the wrapper `just`.
const SECONDS_VARIABLE: &str = "PORTCULLIS_RUSTUP_SECONDS";
const DEFAULT_SECONDS: &str = "120";
/// Miri needs a thousand times as long as the CPU: a few random cases of each property.
const DEFAULT_CASES: &str = "4";

/// Packages with pure code, and which of their tests run.
const TESTS: [&[&str]; 2] =
    [&["--package", "libpks", "--lib", "--test", "pure"], &["--package", "direct", "--lib"]];

/// Runs the tests whose names contain one of `filters`, or all. Gives the exit code: 0 also if Miri cannot be had,
/// after a line with `SKIP:` and the reason.
///
/// # Errors
/// What Miri found, and tests that fail or do not build.
pub fn run(workspace: &Workspace, filters: &[String]) -> Result<u8> {
    let toolchain = std::env::var(TOOLCHAIN_VARIABLE).unwrap_or_else(|_| "nightly".into());
    if let Err(error) = make_ready(&toolchain) {
        println!("SKIP: {error:#}");
        return Ok(0);
    }
    for tests in TESTS {
        let mut cargo = with_toolchain(&toolchain, "test");
        cargo.args(tests).arg("--").args(filters).current_dir(workspace.root());
        // Cargo keeps what Miri builds in a directory of its own.
        cargo.env("CARGO_TARGET_DIR", workspace.target());
        // Properties read their seed, and remember what failed, outside of the interpreter.
        cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
        let cases = std::env::var("PROPTEST_CASES").unwrap_or_else(|_| DEFAULT_CASES.into());
        cargo.env("PROPTEST_CASES", cases);
        tool::run(&mut cargo)?;
    }
    Ok(0)
}

/// `cargo miri TASK` of a toolchain.
fn with_toolchain(toolchain: &str, task: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo", "miri", task]);
    command
}

/// Makes sure that Miri is there with the library that it interprets.
fn make_ready(toolchain: &str) -> Result<()> {
    ensure!(tool::find("rustup").is_some(), "there is no rustup, which installs Miri");
    if !is_installed(toolchain) {
        install(toolchain)?;
    }
    // Builds the library, from the source that is a component too.
    let mut setup = with_toolchain(toolchain, "setup");
    within_limit(&mut setup).context("Miri's library does not build")
}

fn is_installed(toolchain: &str) -> bool {
    let listed = tool::output(Command::new("rustup").args([
        "component",
        "list",
        "--installed",
        "--toolchain",
        toolchain,
    ]));
    listed.is_ok_and(|list| {
        ["miri", "rust-src"].iter().all(|part| list.lines().any(|line| line.starts_with(part)))
    })
}

/// Adds the components to the toolchain that is here, or installs one that has them.
fn install(toolchain: &str) -> Result<()> {
    eprintln!("image: installing Miri into the toolchain {toolchain}");
    let mut add = Command::new("rustup");
    add.args(["component", "add", "miri", "rust-src", "--toolchain", toolchain]);
    let Err(first) = within_limit(&mut add) else { return Ok(()) };
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", toolchain, "--no-self-update", "--profile", "minimal"]);
    install.args(["--component", "miri", "--component", "rust-src"]);
    within_limit(&mut install).with_context(|| format!("rustup cannot install Miri ({first:#})"))
}

/// Runs a command, and everything that it starts, for as long as rustup may take.
fn within_limit(command: &mut Command) -> Result<()> {
    let seconds = std::env::var(SECONDS_VARIABLE).unwrap_or_else(|_| DEFAULT_SECONDS.into());
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", &seconds]).arg(command.get_program()).args(command.get_args());
    let done =
        limited.stdin(std::process::Stdio::null()).output().with_context(|| tool::cannot_start("timeout"))?;
    // 124: ended by `timeout`; none or 137: killed by it.
    if matches!(done.status.code(), None | Some(124 | 137)) {
        bail!("`{}` took more than {seconds} s", tool::shown(command));
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    ensure!(done.status.success(), "`{}` failed: {}", tool::shown(command), last.trim());
    Ok(())
}
