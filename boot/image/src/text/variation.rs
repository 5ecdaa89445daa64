//! Builds a package again and again, each time a little differently, until its text is clean.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libpks::verify::Finding;

use super::Text;
use crate::guest::Guest;
use crate::workspace::Workspace;

/// How one build differs from the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variation {
    /// In which order functions are linked; 0 for the usual one. Another order has other displacements between them.
    pub order: u32,
    /// The compiler's level of optimisation, if not the usual one. Another has other displacements within functions.
    pub level: Option<char>,
}

impl Variation {
    /// What rustc gets for it.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let order = (self.order > 0).then(|| format!("-Clink-arg=--shuffle-sections=.text.*={}", self.order));
        let level = self.level.map(|level| format!("-Copt-level={level}"));
        order.into_iter().chain(level).collect()
    }
}

/// Levels of optimisation, the usual one first.
const LEVELS: [Option<char>; 3] = [None, Some('2'), Some('s')];
/// How many orders are tried with each of them.
const ORDERS: u32 = 16;
/// How many findings in one text are mended; more are no accident.
const MOST: usize = 1000;

/// Gives an executable of the package whose text is clean: `built` itself, with some instructions changed if need be, or that of another variation. `read` reads it; `examine` gives the findings that are not meant to be there.
///
/// # Errors
/// When cargo fails, when a file cannot be read or written, an error of `examine`, or when no variation is clean.
pub fn clean(
    guest: &Guest<'_>,
    workspace: &Workspace,
    package: &str,
    built: &Path,
    read_fn: impl Fn(&Path) -> Result<Text>,
    examine_fn: impl Fn(&Text) -> Result<Vec<Finding>>,
) -> Result<PathBuf> {
    let mut last = String::new();
    for level in LEVELS {
        for order in 0..ORDERS {
            let variation = Variation { order, level };
            let file = match variation == Variation::default() {
                true => built.to_owned(),
                false => guest.build_varied(package, variation)?,
            };
            let mut text = read_fn(&file)?;
            let found = match mend(&mut text, &examine_fn)? {
                Mended::Clean(changes) => return keep(workspace, package, &text, changes),
                Mended::Left(found) => found,
            };
            eprintln!("image: building `{package}` in another way: {found}");
            // The same place again: that displacement does not lead out of its function.
            if std::mem::replace(&mut last, found) == last {
                break;
            }
        }
    }
    bail!("no way to build `{package}` gives clean text: {last}")
}

/// What came of mending a text.
enum Mended {
    /// Nothing is found any more, after so many changes.
    Clean(usize),
    /// This cannot be changed.
    Left(String),
}

/// Changes instructions until nothing is found, or nothing that can be changed.
fn mend(text: &mut Text, examine_fn: &impl Fn(&Text) -> Result<Vec<Finding>>) -> Result<Mended> {
    for changes in 0..MOST {
        let findings = examine_fn(text)?;
        let Some(first) = findings.first() else { return Ok(Mended::Clean(changes)) };
        if !findings.iter().any(|finding| text.mend(*finding)) {
            return Ok(Mended::Left(format!("{} in {}", first.escape, text.place(first.offset))));
        }
    }
    bail!("its text holds more than {MOST} instructions that no domain may execute")
}

/// Writes the executable to where no other build puts its own, in one step, so that who has the old one open keeps it.
fn keep(workspace: &Workspace, package: &str, text: &Text, changes: usize) -> Result<PathBuf> {
    let dir = workspace.output().join("clean");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let kept = dir.join(package);
    if std::fs::read(&kept).is_ok_and(|there| there == text.file()) {
        return Ok(kept);
    }
    if changes > 0 {
        eprintln!("image: `{package}`: {changes} accidental instructions are written in another way");
    }
    let fresh = tempfile::NamedTempFile::new_in(&dir)?.into_temp_path();
    std::fs::write(&fresh, text.file()).with_context(|| format!("cannot write {}", kept.display()))?;
    fresh.persist(&kept)?;
    Ok(kept)
}
