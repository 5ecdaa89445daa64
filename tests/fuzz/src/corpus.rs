//! Where inputs are kept.

use std::io::Result;
use std::path::{Path, PathBuf};

/// The folder with the inputs of a target that are kept in the tree.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of a target, by name of file.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn inputs(target: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files =
        std::fs::read_dir(folder(target))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), std::fs::read(file)?))).collect()
}
