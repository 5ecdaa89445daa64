//! Runs the fuzz targets of the host, then the fuzzer in the guest: `fuzz SECONDS TARGET...`, all of them without a name.
//! What fails is kept, and the command that does it again is printed. `fuzz keep` renews the inputs in the tree.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use image::qemu::{Loader, Machine, Paging};
use image::system::System;
use image::workspace::Workspace;
use libpks::proto::testlink::{Reply, Request};
use tests::failure::Failure;
use tests::fuzz::{self, MANIFEST};
use tests::plan::{End, Running};
use tests::{qemu, stress};

/// What the fuzzer in the guest is called among the targets.
const GUEST: &str = "guest";
/// CPUs of the guest.
const CPUS: u32 = 4;
/// How long a target runs without a word.
const SECONDS: u64 = 60;
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(30);
/// The variable by which the engine knows its target.
const TARGET: &str = "PORTCULLIS_FUZZ_TARGET";
/// The engine wants to know which branches were taken, how often, and what was compared. On stable Rust that is a pass of
/// LLVM with options of its own (<https://clang.llvm.org/docs/SanitizerCoverage.html>).
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let workspace = Arc::new(Workspace::find()?);
    if words == ["keep"] {
        let engine = Engine::build(&workspace)?;
        return ::fuzz::TARGETS.iter().try_for_each(|target| engine.keep(target));
    }
    let (seconds, names) = match words.split_first() {
        Some((first, rest)) if first.parse::<u64>().is_ok() => (first.parse()?, rest),
        _ => (SECONDS, words),
    };
    let known = |name: &&String| *name != GUEST && ::fuzz::find(name).is_none();
    if let Some(unknown) = names.iter().find(known) {
        let all = ::fuzz::TARGETS.map(|target| target.name).join(", ");
        bail!("{unknown} is no target; they are {all}, {GUEST}");
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let targets: Vec<_> = ::fuzz::TARGETS.into_iter().filter(|target| wanted(target.name)).collect();
    if !targets.is_empty() {
        let engine = Engine::build(&workspace)?;
        for target in &targets {
            engine.run(target, seconds)?;
        }
    }
    if wanted(GUEST) { guest(workspace, Duration::from_secs(seconds)) } else { Ok(()) }
}

/// libFuzzer around the targets.
struct Engine {
    program: PathBuf,
    /// Inputs that were found, and those that failed.
    folder: PathBuf,
}

impl Engine {
    fn build(workspace: &Workspace) -> Result<Self> {
        let compiler = Command::new("c++").arg("--version").output();
        ensure!(
            compiler.is_ok_and(|output| output.status.success()),
            "the engine needs a C++ compiler: apt-get install g++"
        );
        let host = host()?;
        let folder = workspace.root().join("target/fuzz");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--profile", "fuzz", "--package", "fuzz", "--features", "engine"])
            .args(["--bin", "engine", "--target", &host])
            .current_dir(workspace.root())
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", COVERAGE);
        println!("fuzz: building the engine (minutes, the first time)");
        ensure!(cargo.status()?.success(), "the engine cannot be built");
        Ok(Self { program: folder.join(host).join("fuzz/engine"), folder })
    }

    fn command(&self, target: &::fuzz::Target) -> Result<Command> {
        let found = self.found(target);
        std::fs::create_dir_all(&found)?;
        let mut command = Command::new(&self.program);
        command.env(TARGET, target.name).arg(format!("-max_len={}", target.longest)).arg("-timeout=20");
        Ok(command)
    }

    /// The folder for inputs that were worth keeping.
    fn found(&self, target: &::fuzz::Target) -> PathBuf {
        self.folder.join("found").join(target.name)
    }

    fn run(&self, target: &::fuzz::Target, seconds: u64) -> Result<()> {
        let failed = self.folder.join("failed").join(target.name);
        std::fs::create_dir_all(&failed)?;
        let output = self
            .command(target)?
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", failed.display()))
            .args([self.found(target), ::fuzz::corpus::folder(target.name)])
            .output()
            .with_context(|| self.program.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let written = text.lines().find_map(|line| line.split_once("Test unit written to "));
            let file = written.map_or("", |(_, file)| file);
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
            bail!("{} fails; again: cargo run -p fuzz --bin replay -- {} {file}", target.name, target.name);
        }
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map_or("?", |rest| rest.trim_start_matches(':').trim())
        };
        let (runs, new) = (number("stat::number_of_executed_units"), number("stat::new_units_added"));
        println!("fuzz: {:<9} {runs:>10} runs, {new:>5} inputs new; {}", target.name, target.about);
        Ok(())
    }

    /// The inputs in the tree become the fewest that reach all that they and those that were found reach.
    fn keep(&self, target: &::fuzz::Target) -> Result<()> {
        let (kept, new) = (::fuzz::corpus::folder(target.name), self.folder.join("kept").join(target.name));
        remake(&new)?;
        let merged =
            self.command(target)?.arg("-merge=1").arg(&new).arg(&kept).arg(self.found(target)).output()?;
        ensure!(merged.status.success(), "{}: {}", target.name, String::from_utf8_lossy(&merged.stderr));
        remake(&kept)?;
        let mut count = 0;
        for entry in std::fs::read_dir(&new)? {
            let entry = entry?;
            std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
            count += 1;
        }
        println!("fuzz: {:<9} {count} inputs are kept", target.name);
        Ok(())
    }
}

fn remake(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(std::fs::create_dir_all(folder)?)
}

/// The host's target triple. With it named, build scripts are built without counters.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("rustc")?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc has no host")
}

/// The fuzzer in the guest.
fn guest(workspace: Arc<Workspace>, time: Duration) -> Result<()> {
    let system = Arc::new(System::build(&workspace, &workspace.root().join(MANIFEST)).context(MANIFEST)?);
    let seed = stress::first_seed()?;
    let machine = Machine::new(Loader::Direct).cpus(CPUS).paging(Paging::Four).memory_mib(128);
    let mut running = qemu::boots(workspace, system, machine)()?;
    println!("fuzz: {GUEST}: {CPUS} CPUs, first seed {seed:#x}");
    let done = boot(&mut running, seed, time);
    done.map_err(|failure| anyhow::anyhow!("{failure}\nconsole:\n{}", running.console.tail(60)))
}

fn boot(running: &mut Running, seed: u64, time: Duration) -> Result<(), Failure> {
    running.link.hello(READY)?;
    let tally = fuzz::sessions(running, seed, 0, time, |_, _| {})?;
    match running.link.ask(&Request::Finish, END)? {
        Reply::Closing(_) => {}
        other => return Err(Failure::Wrong(format!("no closing record: {other:?}"))),
    }
    match running.wait(END)? {
        End::Success => println!("fuzz: {GUEST}: {tally}"),
        other => return Err(Failure::Wrong(format!("QEMU ended with {other}"))),
    }
    Ok(())
}
