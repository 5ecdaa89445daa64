//! The copy of the tree that is broken: only what differs is written, so that what was built of it stays good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What is no part of the sources: what was built, the history, and what a test leaves behind when it fails.
const LEFT_OUT: [&str; 3] = ["target", ".git", "proptest-regressions"];

/// Makes `to` a copy of `from`, also of what is not committed yet. Files of equal content are not touched.
///
/// # Errors
/// A file cannot be read, written or removed.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let (wanted, there) = (files(from)?, files(to).unwrap_or_default());
    for surplus in there.difference(&wanted) {
        fs::remove_file(to.join(surplus)).with_context(|| surplus.display().to_string())?;
    }
    for file in &wanted {
        let bytes = fs::read(from.join(file)).with_context(|| file.display().to_string())?;
        let target = to.join(file);
        if fs::read(&target).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        // With its permissions: some are programs.
        fs::copy(from.join(file), &target).with_context(|| target.display().to_string())?;
    }
    Ok(())
}

/// All files of the sources below a folder, by their path from there.
pub(super) fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_the_tree_has_and_nothing_else() -> Result<()> {
        let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
        for (file, text) in [("a/b/c.rs", "c"), ("d.rs", "d"), ("target/x", "x"), ("a/.git/x", "x")] {
            let path = from.path().join(file);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        fs::write(to.path().join("gone.rs"), "old")?;
        copy(from.path(), to.path())?;
        let expected: BTreeSet<PathBuf> = ["a/b/c.rs", "d.rs"].map(PathBuf::from).into();
        assert_eq!(files(to.path())?, expected);
        let before = fs::metadata(to.path().join("d.rs"))?.modified()?;
        fs::write(from.path().join("a/b/c.rs"), "new")?;
        fs::write(to.path().join("a/b/c.rs"), "broken")?;
        copy(from.path(), to.path())?;
        assert_eq!(fs::read_to_string(to.path().join("a/b/c.rs"))?, "new");
        assert_eq!(fs::metadata(to.path().join("d.rs"))?.modified()?, before, "an equal file was written");
        Ok(())
    }
}
