//! Builds the crates that run on the machine itself: kernel, servers, direct loader.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::text::Variation;
use crate::{tool, workspace::Workspace};

/// The target of every guest crate.
pub const TARGET: &str = "x86_64-unknown-none";
/// Overrides which toolchain builds the guest: `target` or `build-std`.
pub const TOOLCHAIN_VARIABLE: &str = "PORTCULLIS_GUEST_TOOLCHAIN";
/// The compiler of Debian's package `rustc-web`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What compiles for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The compiler that cargo uses anyway, with the target installed.
    Target,
    /// A compiler whose own library source is installed: core and alloc are built along.
    BuildStd {
        /// The compiler.
        rustc: PathBuf,
    },
}

impl Toolchain {
    /// The toolchain that [`TOOLCHAIN_VARIABLE`] names, else the first that is installed.
    ///
    /// # Errors
    /// When none is installed (the message says what to install), or the variable has another value.
    pub fn detect() -> Result<Self> {
        let build_std = Self::BuildStd { rustc: DEBIAN_RUSTC.into() };
        match std::env::var(TOOLCHAIN_VARIABLE).as_deref() {
            Ok("target") => return Ok(Self::Target),
            Ok("build-std") => return Ok(build_std),
            Ok("") | Err(_) => {}
            Ok(other) => bail!("{TOOLCHAIN_VARIABLE} is `target` or `build-std`, not {other:?}"),
        }
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        if has_library(Path::new(&rustc), Path::new(&format!("rustlib/{TARGET}/lib"))) {
            return Ok(Self::Target);
        }
        if has_library(Path::new(DEBIAN_RUSTC), Path::new("rustlib/src/rust/library/core")) {
            return Ok(build_std);
        }
        bail!(
            "the Rust target {TARGET} is not installed: run `./just`, which sets it up, or \
             `rustup target add {TARGET}`, or install Debian's rustc-web, rust-web-src and lld"
        )
    }

    /// A word for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Target => format!("installed target {TARGET}"),
            Self::BuildStd { rustc } => format!("{} with core built along", rustc.display()),
        }
    }

    fn configure(&self, cargo: &mut Command) {
        let Self::BuildStd { rustc } = self else { return };
        cargo
            .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
        // The two -Z options are what stable cargo refuses without it; the crates stay stable Rust.
        cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        // Rustup's proxies would put the other toolchain's libraries in the way.
        cargo.env_remove("LD_LIBRARY_PATH");
    }
}

fn has_library(rustc: &Path, under_lib: &Path) -> bool {
    let sysroot = tool::output(Command::new(rustc).args(["--print", "sysroot"]));
    sysroot.is_ok_and(|root| Path::new(root.trim()).join("lib").join(under_lib).is_dir())
}

/// Runs cargo for guest crates.
#[derive(Debug)]
pub struct Guest<'a> {
    workspace: &'a Workspace,
    toolchain: &'a Toolchain,
}

impl<'a> Guest<'a> {
    /// A builder for the crates of `workspace`.
    #[must_use]
    pub fn new(workspace: &'a Workspace, toolchain: &'a Toolchain) -> Self {
        Self { workspace, toolchain }
    }

    /// Builds the packages in release mode in one cargo invocation; gives their executables, which
    /// are named like the packages, in the order of `packages`.
    ///
    /// # Errors
    /// When cargo fails; what it said has gone to standard error.
    pub fn build(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.cargo(packages, &[])
    }

    /// Builds one package with features of its own. With features it gets a directory of its own: cargo would put both
    /// executables in the same place, and one could be taken for the other.
    ///
    /// # Errors
    /// As [`Guest::build`].
    pub fn build_with(&self, package: &str, features: &[&str]) -> Result<PathBuf> {
        Ok(self.cargo(&[package], features)?.remove(0))
    }

    /// Builds a package in another way; gives its executable. The next [`Guest::build`] puts the usual one back in its
    /// place.
    ///
    /// # Errors
    /// As [`Guest::build`].
    pub fn build_varied(&self, package: &str, variation: Variation) -> Result<PathBuf> {
        let mut cargo = self.command("rustc");
        let target = self.workspace.target();
        cargo.arg("--target-dir").arg(target).args(["--package", package, "--bin", package]);
        self.toolchain.configure(&mut cargo);
        cargo.arg("--").args(variation.arguments());
        tool::run(&mut cargo).with_context(|| format!("building {package} for {TARGET}"))?;
        executable(&target.join(TARGET).join("release").join(package))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(self.workspace.root());
        cargo.args([subcommand, "--quiet", "--release", "--target", TARGET]);
        cargo
    }

    fn cargo(&self, packages: &[&str], features: &[&str]) -> Result<Vec<PathBuf>> {
        let target = match features {
            [] => self.workspace.target().to_owned(),
            features => self.workspace.output().join(format!("build.{}", features.join("."))),
        };
        let mut cargo = self.command("build");
        cargo.arg("--target-dir").arg(&target);
        for package in packages {
            cargo.args(["--package", package]);
        }
        for feature in features {
            cargo.args(["--features", feature]);
        }
        self.toolchain.configure(&mut cargo);
        tool::run(&mut cargo).with_context(|| format!("building {} for {TARGET}", packages.join(", ")))?;
        let dir = target.join(TARGET).join("release");
        packages.iter().map(|package| executable(&dir.join(package))).collect()
    }
}

fn executable(file: &Path) -> Result<PathBuf> {
    if !file.is_file() {
        bail!("cargo built no {}: the binary must be named like its package", file.display());
    }
    Ok(file.to_owned())
}
