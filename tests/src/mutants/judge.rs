//! Builds harnesses, runs tests by their names, and reads what came of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use image::system::System;
use image::workspace::Workspace;

use super::test_name::{Harness, TestName};

/// Names the tests that `tests/system` runs, one a line; the library `libtest-mimic` takes one filter only.
pub const NAMES_VARIABLE: &str = "PORTCULLIS_TESTS";
/// What the tests of one harness may take together. They have limits of their own, which are far shorter.
const LIMIT: Duration = Duration::from_secs(400);
const POLL: Duration = Duration::from_millis(50);

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It ran and failed, with the first line of the reason.
    Failed(String),
    /// It did not run, or not to its end.
    NotRun(String),
}

/// Tests by name, and what came of each.
pub type Verdicts = BTreeMap<TestName, Verdict>;

/// Runs tests against the copy of the tree.
#[derive(Debug)]
pub struct Judge {
    sound: Workspace,
    copy: Workspace,
    folder: PathBuf,
    /// Harnesses of the sound tree.
    harnesses: Arc<HashMap<Harness, PathBuf>>,
    told_to_end: Arc<AtomicBool>,
    /// Guests of two judges at a time would wait for the host, and for nothing else some would run into their limits.
    turn: Arc<Mutex<()>>,
    /// Nobody else works in the folder while this is open.
    lock: Arc<File>,
}

impl Judge {
    /// Copies the sound tree into the folder `mutants` of its target directory, and builds the harnesses that boot the
    /// system. Waits while another judge has that folder.
    ///
    /// # Errors
    /// The tree cannot be copied, or a harness does not build.
    pub fn new(sound: Workspace, told_to_end: Arc<AtomicBool>) -> Result<Self> {
        let folder = sound.target().join("mutants");
        fs::create_dir_all(folder.join("harnesses"))?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let copy = copy(&sound, &folder)?;
        let (turn, lock) = (Arc::default(), Arc::new(lock));
        let mut judge = Self { sound, copy, folder, harnesses: Arc::default(), told_to_end, turn, lock };
        let mut harnesses = HashMap::new();
        for (harness, file) in judge.cargo_test(&judge.sound, "tests", None)? {
            // Somebody may build the sound tree again meanwhile.
            let own = judge.folder.join("harnesses").join(&harness.target);
            fs::copy(&file, &own).with_context(|| file.display().to_string())?;
            harnesses.insert(harness, own);
        }
        judge.harnesses = Arc::new(harnesses);
        Ok(judge)
    }

    /// A second judge with a copy of its own, who builds while this one tests and the other way round.
    ///
    /// # Errors
    /// The tree cannot be copied.
    pub fn colleague(&self) -> Result<Self> {
        let folder = self.folder.join("colleague");
        Ok(Self {
            sound: self.sound.clone(),
            copy: copy(&self.sound, &folder)?,
            folder,
            harnesses: Arc::clone(&self.harnesses),
            told_to_end: Arc::clone(&self.told_to_end),
            turn: Arc::clone(&self.turn),
            lock: Arc::clone(&self.lock),
        })
    }

    /// The copy's root.
    #[must_use]
    pub fn tree(&self) -> &Path {
        self.copy.root()
    }

    /// Which of these tests do not exist, of those that boot the system.
    ///
    /// # Errors
    /// A harness cannot be started, or we were told to end.
    pub fn missing(&self, names: impl IntoIterator<Item = TestName>) -> Result<BTreeSet<TestName>> {
        let mut missing: BTreeSet<TestName> = names.into_iter().filter(|name| name.harness.boots()).collect();
        let log = self.folder.join("logs/list.log");
        fs::write(&log, "")?;
        for (harness, file) in self.harnesses.iter() {
            let (_, said) = self.execute(Command::new(file).arg("--list"), &log)?;
            let there: BTreeSet<&str> = said.lines().filter_map(|line| line.strip_suffix(": test")).collect();
            missing.retain(|name| name.harness != *harness || !there.contains(name.name.as_str()));
        }
        Ok(missing)
    }

    /// Builds of the copy what these tests need: the system, or the tests of the packages that they are in.
    ///
    /// # Errors
    /// It does not build; cargo has said why.
    pub fn build(&self, names: &[TestName]) -> Result<HashMap<Harness, PathBuf>> {
        let wanted: BTreeSet<&Harness> = names.iter().map(|name| &name.harness).collect();
        let mut harnesses = HashMap::new();
        for harness in wanted {
            if !harness.boots() {
                harnesses.extend(self.cargo_test(&self.copy, &harness.package, Some(&harness.target))?);
                continue;
            }
            let file = self.harnesses.get(harness).with_context(|| format!("there is no test {harness}"))?;
            harnesses.insert(harness.clone(), file.clone());
        }
        if names.iter().any(|name| name.harness.boots()) {
            System::build(&self.copy, &self.tree().join("boot/test.toml"))?;
        }
        Ok(harnesses)
    }

    /// Runs these tests, and no others. `log` names the file in the folder `logs` that keeps what they said.
    ///
    /// # Errors
    /// A harness cannot be started, or we were told to end.
    pub fn run(
        &self,
        harnesses: &HashMap<Harness, PathBuf>,
        names: &[TestName],
        log: &str,
    ) -> Result<Verdicts> {
        let mut groups: BTreeMap<&Harness, Vec<&TestName>> = BTreeMap::new();
        for name in names {
            groups.entry(&name.harness).or_default().push(name);
        }
        let log = self.folder.join("logs").join(format!("{log}.log"));
        fs::write(&log, "")?;
        let mut verdicts = Verdicts::new();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (harness, names) in groups {
            let file = harnesses.get(harness).with_context(|| format!("there is no test {harness}"))?;
            let mut command = Command::new(file);
            let package = if harness.boots() { "tests" } else { harness.package.as_str() };
            command.current_dir(self.folder_of(package)?).env("CARGO_TARGET_DIR", self.copy.target());
            let plain: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
            if harness.target == "system" {
                command.env(NAMES_VARIABLE, plain.join("\n"));
            } else {
                command.arg("--exact").args(&plain);
            }
            let (status, said) = self.execute(&mut command, &log)?;
            for name in names {
                verdicts.insert(name.clone(), verdict(&said, &name.name, status));
            }
        }
        Ok(verdicts)
    }

    /// The folder of a package in the copy: what its tests expect to be started in.
    fn folder_of(&self, package: &str) -> Result<PathBuf> {
        let folder = ["", "boot", "servers", "tests"].map(|above| self.tree().join(above).join(package));
        folder.into_iter().find(|folder| folder.is_dir()).with_context(|| format!("no package {package}"))
    }

    /// Builds test harnesses of a package: all of its integration tests, or one target.
    fn cargo_test(
        &self,
        workspace: &Workspace,
        package: &str,
        target: Option<&str>,
    ) -> Result<HashMap<Harness, PathBuf>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace.root()).stdin(Stdio::null()).stderr(Stdio::inherit());
        cargo.args(["test", "--quiet", "--no-run", "--message-format=json-render-diagnostics"]);
        cargo.args(["--package", package]).arg("--target-dir").arg(workspace.target());
        match target {
            None => cargo.arg("--tests"),
            Some("lib") => cargo.arg("--lib"),
            Some(target) => cargo.args(["--test", target]),
        };
        let done = cargo.output().context("cannot start cargo")?;
        ensure!(done.status.success(), "the tests of {package} do not build");
        let said = String::from_utf8_lossy(&done.stdout);
        Ok(said.lines().filter_map(|line| executable(package, line)).collect())
    }

    /// Runs a command to its end; gives what it wrote to standard output, and adds everything to the log.
    fn execute(&self, command: &mut Command, log: &Path) -> Result<(Option<ExitStatus>, String)> {
        let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(err.reopen()?);
        // A group of its own, so that its guests end with it.
        let mut child = command.process_group(0).spawn().context("cannot start a harness")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if self.told_to_end.load(Ordering::Relaxed) {
                end(&mut child);
                bail!("told to end");
            }
            if begun.elapsed() > LIMIT {
                end(&mut child);
                break None;
            }
            std::thread::sleep(POLL);
        };
        let said = String::from_utf8_lossy(&fs::read(out.path())?).into_owned();
        let whole = [fs::read(log)?, said.clone().into_bytes(), fs::read(err.path())?].concat();
        fs::write(log, whole)?;
        Ok((status, said))
    }
}

/// Copies the sound tree into a judge's folder, beside what is built of the copy and what the tests say.
fn copy(sound: &Workspace, folder: &Path) -> Result<Workspace> {
    let tree = folder.join("tree");
    for folder in [&tree, &folder.join("logs")] {
        fs::create_dir_all(folder)?;
    }
    super::tree::copy(sound.root(), &tree).context("copying the tree")?;
    Ok(Workspace::at(&tree)?.with_target(folder.join("target")))
}

/// Ends a harness and the guests that it started.
fn end(child: &mut Child) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
    let _ = child.kill();
    let _ = child.wait();
}

/// The harness that a line of cargo's report tells of.
fn executable(package: &str, line: &str) -> Option<(Harness, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let (file, target) = (message.get("executable")?.as_str()?, message.get("target")?);
    let kind = target.get("kind")?.get(0)?.as_str()?;
    let target = match kind {
        "test" => target.get("name")?.as_str()?,
        "lib" => "lib",
        _ => return None,
    };
    Some((Harness { package: package.into(), target: target.into() }, file.into()))
}

/// What the report of a harness says of a test.
fn verdict(said: &str, name: &str, status: Option<ExitStatus>) -> Verdict {
    match (word(said, name), status) {
        (Some("ok"), _) => Verdict::Passed,
        (Some("FAILED"), _) => Verdict::Failed(reason(said, name)),
        (Some(word), Some(_)) if !word.is_empty() => Verdict::NotRun(word.to_owned()),
        (_, None) => Verdict::NotRun(format!("its harness did not end within {} s", LIMIT.as_secs())),
        (_, Some(status)) => match status.signal() {
            Some(signal) if said.contains("running 1 test") => {
                Verdict::Failed(format!("it was ended by signal {signal}"))
            }
            _ => Verdict::NotRun("its harness does not tell of it".into()),
        },
    }
}

/// What stands behind a test's name. Where the test itself has said something there, the word comes on a later line.
fn word<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = said.lines();
    let first = lines.find_map(|line| {
        let rest = line.strip_prefix("test ")?.strip_prefix(name)?;
        Some(rest.trim_start().strip_prefix("...")?.trim())
    })?;
    let is_word = |word: &str| matches!(word, "ok" | "FAILED") || word.starts_with("ignored");
    if is_word(first) {
        return Some(first);
    }
    let later = lines.take_while(|line| !line.starts_with("test ")).map(str::trim).find(|line| is_word(line));
    later.or(Some(first))
}

/// The first line that tells why a test failed.
fn reason(said: &str, name: &str) -> String {
    let mut lines = said.lines().skip_while(|line| {
        let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_prefix(name));
        !heading.is_some_and(|rest| rest.starts_with(' '))
    });
    lines.next();
    let telling = |line: &&str| !line.trim().is_empty() && !line.starts_with("thread '");
    lines.find(telling).unwrap_or("no reason given").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "running 3 tests\n\
        test a::b  ... ok\n\
        test a::bc ... FAILED\n\
        test a::d  ... ignored, not here\n\n\
        ---- a::bc stdout ----\n\n\
        thread 'a::bc' (7) panicked at x.rs:1:2:\n\
        the wall is down\n";

    fn ended(code: i32) -> Option<ExitStatus> {
        Some(ExitStatus::from_raw(code))
    }

    #[test]
    fn only_a_test_that_ran_and_failed_has_failed() {
        assert_eq!(verdict(SAID, "a::b", ended(101 << 8)), Verdict::Passed);
        assert_eq!(verdict(SAID, "a::bc", ended(101 << 8)), Verdict::Failed("the wall is down".into()));
        assert_eq!(verdict(SAID, "a::d", ended(0)), Verdict::NotRun("ignored, not here".into()));
        for name in ["a", "a::e", "a::bcd"] {
            assert!(matches!(verdict(SAID, name, ended(0)), Verdict::NotRun(_)), "{name}");
        }
        assert!(matches!(verdict("running 0 tests\n", "a", ended(0)), Verdict::NotRun(_)));
        assert!(matches!(verdict("", "a", ended(101 << 8)), Verdict::NotRun(_)));
    }

    #[test]
    fn a_test_may_say_something_itself() {
        let said = "test a ... 7 exits\nok\ntest b ... a\nFAILED\ntest c ... 8 exits\ntest d ... ok\n";
        assert_eq!(verdict(said, "a", ended(0)), Verdict::Passed);
        assert!(matches!(verdict(said, "b", ended(0)), Verdict::Failed(_)));
        assert_eq!(verdict(said, "c", ended(0)), Verdict::NotRun("8 exits".into()));
    }

    #[test]
    fn a_test_that_takes_its_harness_along_has_failed() {
        let said = "running 1 test\n";
        assert_eq!(verdict(said, "a", ended(6)), Verdict::Failed("it was ended by signal 6".into()));
        assert!(matches!(verdict(said, "a", None), Verdict::NotRun(_)), "ended by us");
        assert!(matches!(verdict("running 2 tests\n", "a", ended(6)), Verdict::NotRun(_)), "which of both?");
    }

    #[test]
    fn cargo_tells_where_a_harness_is() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"pure"},"executable":"/x"}"#;
        let pure = Harness { package: "libpks".into(), target: "pure".into() };
        assert_eq!(executable("libpks", line), Some((pure, "/x".into())));
        assert_eq!(executable("libpks", &line.replace("\"/x\"", "null")), None);
        assert_eq!(executable("libpks", "noise"), None);
    }
}
