//! Mutants: small sabotages of the tree, each of which a named test must catch.
//!
//! A mutant is a file in `tests/mutants/`. The runner breaks a copy of the tree with one of them at a time, builds what
//! follows from it, and runs the tests that the file names: every one must fail. They are run by harnesses that were
//! built from the sound tree, so that nothing judges itself; and all of them must pass on the sound copy first.
//!
//! | module | what it does |
//! |---|---|
//! | this one | the files: what they say, and whether the text that they replace is still there |
//! | [`test_name`] | names of tests, and which harness has them |
//! | [`tree`] | the copy of the tree |
//! | [`judge`] | builds harnesses, runs tests by their names, reads what came of each |
//! | [`runner`] | one mutant after the other, and the closing summary |
//! | [`page`] | the table in docs/mutants.md |

pub mod judge;
pub mod page;
pub mod runner;
pub mod test_name;
pub mod tree;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use test_name::TestName;

/// Where the files are, from the tree's root.
pub const FOLDER: &str = "tests/mutants";

/// One sabotage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What is broken, in a line.
    pub about: String,
    /// What a domain would gain, or what would go wrong.
    pub harm: String,
    /// The tests that must fail, each of them.
    pub caught_by: Vec<TestName>,
    /// Whether it is one of the few that `just test` runs.
    #[serde(default)]
    pub slice: bool,
    /// Whether the machine hangs, so that a test may fail by its time limit.
    #[serde(default)]
    pub hangs: bool,
    /// The changes.
    #[serde(rename = "edit")]
    pub edits: Vec<Edit>,
}

/// A text that is replaced by another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, from the tree's root.
    pub file: String,
    /// What is replaced; it must be there [`times`](Self::times) times.
    pub find: String,
    /// What comes there instead.
    pub replace: String,
    /// How often the text is in the file.
    #[serde(default = "once")]
    pub times: usize,
}

const fn once() -> usize {
    1
}

/// The text that a mutant replaces is not in its file as often as it says: the code has changed since.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mutant is stale: {file} has its text {found} times instead of {times}")]
pub struct Stale {
    /// The file.
    pub file: String,
    /// How often the text was found.
    pub found: usize,
    /// How often it should be there.
    pub times: usize,
}

impl Edit {
    /// The file's text with the change.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn apply(&self, text: &str) -> Result<String, Stale> {
        let found = text.matches(&self.find).count();
        if found != self.times || self.find.is_empty() {
            return Err(Stale { file: self.file.clone(), found, times: self.times });
        }
        Ok(text.replace(&self.find, &self.replace))
    }
}

impl Mutant {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let mutant = Self { name: name.to_owned(), ..toml::from_str(text)? };
        ensure!(!mutant.edits.is_empty(), "it changes nothing");
        ensure!(!mutant.caught_by.is_empty(), "no test is named");
        ensure!(mutant.edits.iter().all(|edit| edit.find != edit.replace), "an edit changes nothing");
        ensure!(!mutant.about.is_empty() && !mutant.harm.is_empty(), "it does not say what it is about");
        Ok(mutant)
    }

    /// The files that it changes, with their new text.
    ///
    /// # Errors
    /// [`Stale`]; or a file cannot be read.
    pub fn changed_files(&self, root: &Path) -> Result<Vec<(String, String)>> {
        let mut changed: Vec<(String, String)> = Vec::new();
        for edit in &self.edits {
            if let Some((_, text)) = changed.iter_mut().find(|(file, _)| *file == edit.file) {
                *text = edit.apply(text)?;
                continue;
            }
            let text = std::fs::read_to_string(root.join(&edit.file))
                .with_context(|| format!("mutant is stale: {}", edit.file))?;
            changed.push((edit.file.clone(), edit.apply(&text)?));
        }
        Ok(changed)
    }
}

/// All mutants of a tree, those of one crate together, because what one changes has to be built again for the next.
///
/// # Errors
/// A file cannot be read or says something that no mutant says; the message names it.
pub fn all(root: &Path) -> Result<Vec<Mutant>> {
    let folder = root.join(FOLDER);
    let mut mutants = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)?;
        mutants.push(Mutant::parse(name, &text).with_context(|| format!("{FOLDER}/{name}.toml"))?);
    }
    mutants.sort_by(|a, b| (&a.edits[0].file, &a.name).cmp(&(&b.edits[0].file, &b.name)));
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        about = "a"
        harm = "b"
        caught_by = ["tests/system::boot::test"]
        [[edit]]
        file = "f"
        find = "one"
        replace = "two"
    "#;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn a_file_says_what_is_changed_and_who_must_see_it() -> Result<()> {
        let mutant = Mutant::parse("m", GOOD)?;
        assert_eq!((mutant.name.as_str(), mutant.slice, mutant.edits[0].times), ("m", false, 1));
        assert_eq!(mutant.caught_by[0].to_string(), "tests/system::boot::test");
        for (bad, why) in [
            (GOOD.replace("[\"tests/system::boot::test\"]", "[]"), "no test"),
            (GOOD.replace("two", "one"), "changes nothing"),
            (GOOD.replace("[[edit]]", "[[edits]]"), "unknown field"),
            (GOOD.replace("harm = \"b\"", "harm = \"\""), "what it is about"),
            (GOOD.replace("tests/system::boot::test", "boot::test"), "no harness"),
        ] {
            let error = Mutant::parse("m", &bad).expect_err(why);
            assert!(format!("{error:#}").contains(why), "{error:#} instead of {why}");
        }
        Ok(())
    }

    #[test]
    fn an_edit_changes_exactly_what_it_says() {
        let edit = |times| Edit { file: "f".into(), find: "x".into(), replace: "y".into(), times };
        assert_eq!(edit(1).apply("axb"), Ok("ayb".into()));
        assert_eq!(edit(2).apply("axbx"), Ok("ayby".into()));
        let stale = |found, times| Err(Stale { file: "f".into(), found, times });
        assert_eq!(edit(1).apply("ab"), stale(0, 1));
        assert_eq!(edit(1).apply("axbx"), stale(2, 1));
        assert_eq!(edit(3).apply("axbx"), stale(2, 3));
    }

    /// So that a change of the code shows here at once, and not when the mutants are run.
    #[test]
    fn no_mutant_is_stale() -> Result<()> {
        let mutants = all(root())?;
        assert!(mutants.len() >= 20, "only {} mutants", mutants.len());
        let stale: Vec<String> = mutants
            .iter()
            .filter_map(|mutant| {
                let error = mutant.changed_files(root()).err()?;
                Some(format!("{}: {error:#}", mutant.name))
            })
            .collect();
        assert!(stale.is_empty(), "{stale:#?}");
        Ok(())
    }

    /// Those that boot the system are asked for by `mutant::named_tests_exist`.
    #[test]
    fn named_tests_of_other_packages_exist() -> Result<()> {
        let packages = [
            ("libpks", "libpks"),
            ("image", "boot/image"),
            ("direct", "boot/direct"),
            ("init", "servers/init"),
            ("fuzz", "tests/fuzz"),
        ];
        for name in all(root())?.into_iter().flat_map(|mutant| mutant.caught_by) {
            if name.harness.boots() {
                continue;
            }
            let folder = packages.iter().find(|(package, _)| *package == name.harness.package);
            let folder = root().join(folder.with_context(|| format!("{name}: which folder?"))?.1);
            let function = name.name.rsplit("::").next().unwrap_or_default();
            let defines = |file: &std::path::PathBuf| {
                std::fs::read_to_string(folder.join(file))
                    .is_ok_and(|text| text.contains(&format!("fn {function}(")))
            };
            ensure!(tree::files(&folder)?.iter().any(defines), "there is no test {name}");
        }
        Ok(())
    }

    #[test]
    fn some_mutants_are_for_every_run() -> Result<()> {
        let slice = all(root())?.into_iter().filter(|mutant| mutant.slice).count();
        assert!((3..=5).contains(&slice), "{slice}");
        Ok(())
    }
}
