//! Where the project's files are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The project's root directory and the directory that cargo builds into.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace: the nearest directory at or above the current one with
    /// `boot/system.toml`, else the one that this program was built from.
    ///
    /// # Errors
    /// When the current directory cannot be read, or neither place has the manifest.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current directory")?;
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = here
            .ancestors()
            .chain(std::iter::once(built_from.as_path()))
            .find(|dir| dir.join("boot/system.toml").is_file())
            .context("no boot/system.toml in this directory or above it: run this inside the project")?;
        Self::at(root)
    }

    /// The workspace whose root directory is `root`.
    ///
    /// # Errors
    /// When `root` does not exist or the current directory cannot be read.
    pub fn at(root: &Path) -> Result<Self> {
        let root = root.canonicalize().with_context(|| format!("no directory {}", root.display()))?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The same workspace, built into another directory.
    #[must_use]
    pub fn with_target(self, target: PathBuf) -> Self {
        Self { target, ..self }
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that cargo builds into.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The directory for boot files, outside of cargo's own ones.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.target.join("boot")
    }

    /// The manifest of the system that `just run` boots.
    #[must_use]
    pub fn system_manifest(&self) -> PathBuf {
        self.root.join("boot/system.toml")
    }
}
