//! The bench: boots the system of `boot/bench.toml` with the plugin that counts (`tests/counter`), and makes a table of what
//! it wrote.

mod accepted;
mod counts;
mod picture;
pub mod readme;
mod table;
mod trace;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use image::qemu::{Icount, Loader, Machine, Serial, Verdict};
use image::system::System;
use image::workspace::Workspace;
use libpks::proto::bench::ROWS;

use crate::cpu::Cpu;

pub use accepted::{Accepted, Worse};
pub use counts::{Counts, Spread};
pub use picture::picture;
pub use table::{json, table};

const MANIFEST: &str = "boot/bench.toml";
/// What was last accepted.
const ACCEPTED: &str = "tests/bench/accepted.toml";
/// What the guest has: room for thousands of domains.
const MEMORY_MIB: u64 = 3072;
/// The time that the guest may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs the bench: the counts of each row, in order.
///
/// # Errors
/// When something does not build or boot, or the guest does not come to its last row.
pub fn run(workspace: &Workspace, cpu: Cpu) -> Result<Vec<Counts>> {
    let (_, text) = execute(workspace, cpu, None)?;
    counts::read(&text, cpu.suffix())
}

/// Where the instructions of one round of a row are: functions, with how often and how many.
///
/// # Errors
/// As [`run`], and when no row has that name.
pub fn trace(workspace: &Workspace, row: &str) -> Result<String> {
    let place = ROWS.iter().position(|known| known.name == row).with_context(|| format!("no row {row:?}"))?;
    let (system, text) = execute(workspace, Cpu::Pks, Some(place))?;
    trace::table(&system, &text)
}

/// Boots, and gives what the plugin wrote.
fn execute(workspace: &Workspace, cpu: Cpu, traced: Option<usize>) -> Result<(System, String)> {
    let plugin = plugin(workspace)?;
    let system = System::build(workspace, &workspace.root().join(MANIFEST)).context(MANIFEST)?;
    let dir = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?;
    let (samples, console) = (dir.path().join("samples"), dir.path().join("console"));
    let trace = traced.map(|row| format!(",trace={row}")).unwrap_or_default();
    let option = format!("file={},out={}{trace}", plugin.display(), samples.display());
    // Time is instructions, and does not wait for the host's.
    let machine = Machine::new(Loader::Direct)
        .cpu(cpu.model())
        .memory_mib(MEMORY_MIB)
        .icount(Icount { shift: 0, sleep: false })
        .serial1(Serial::File(console.clone()))
        .extra(["-plugin", &option]);
    let mut guest = machine.spawn(workspace, &system)?;
    let ending = guest.wait(LIMIT)?;
    let said = || std::fs::read_to_string(&console).unwrap_or_default();
    match ending {
        Some(ending) if ending.verdict == Verdict::PowerOff => {}
        Some(ending) => bail!("QEMU ended with {:?} {}\n{}", ending.verdict, ending.stderr, said()),
        None => bail!("not done within {} s\n{}", LIMIT.as_secs(), said()),
    }
    let text = std::fs::read_to_string(&samples).context("the plugin wrote nothing")?;
    Ok((system, text))
}

/// What was last accepted.
///
/// # Errors
/// When the file is missing or malformed.
pub fn accepted(workspace: &Workspace) -> Result<Accepted> {
    Accepted::read(&accepted_file(workspace))
}

/// Where that stands.
#[must_use]
pub fn accepted_file(workspace: &Workspace) -> PathBuf {
    workspace.root().join(ACCEPTED)
}

/// The picture of what was last accepted, against what was before.
#[must_use]
pub fn picture_file(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/bench.svg")
}

/// Builds the plugin.
fn plugin(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target().join("counter");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "counter", "--target-dir"])
        .arg(&target)
        .current_dir(workspace.root())
        .status()
        .context("cargo does not start")?;
    ensure!(built.success(), "the plugin does not build");
    let file = Path::new(&target).join("release/libcounter.so");
    ensure!(file.is_file(), "{} was not built", file.display());
    Ok(file)
}
