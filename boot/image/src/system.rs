//! A system that is ready to boot: the kernel, its modules, and the direct loader.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use libpks::manifest::{ImageDigest, Manifest};

use crate::bundle::{self, Member};
use crate::guest::{Guest, Toolchain};
use crate::workspace::Workspace;
use crate::{manifest, server, tool};

/// A file that the boot loader hands to the kernel.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name: the kernel sees it as the module's string.
    pub name: String,
    /// Where it is on the host.
    pub file: PathBuf,
}

impl Module {
    /// The path that the kernel sees.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/boot/{}", self.name)
    }
}

/// Everything that a boot needs, built and in files.
#[derive(Debug, Clone)]
pub struct System {
    kernel: PathBuf,
    loader: PathBuf,
    bundle: PathBuf,
    modules: Vec<Module>,
    symbols: Vec<PathBuf>,
}

impl System {
    /// The kernel's path as both loaders report it.
    pub const KERNEL_PATH: &str = "/boot/kernel";

    /// Compiles `manifest`, builds the kernel, the manifest's servers and the direct loader, and
    /// puts the files that a boot needs into a directory named like the manifest.
    ///
    /// # Errors
    /// When the manifest has a mistake (the message names file and line), when a crate does not
    /// build, or when a file cannot be written.
    pub fn build(workspace: &Workspace, manifest: &Path) -> Result<Self> {
        Self::build_with(workspace, manifest, &[])
    }

    /// The same with features of the kernel's switched on. Its files are beside those of the ordinary system, and
    /// neither is built anew because of the other.
    ///
    /// # Errors
    /// As [`System::build`].
    pub fn build_with(workspace: &Workspace, manifest: &Path, features: &[&str]) -> Result<Self> {
        let compiled = manifest::load(manifest)?;
        let toolchain = Toolchain::detect()?;
        let images: Vec<_> = compiled.servers.iter().map(|server| server.image.as_str()).collect();
        let guest = Guest::new(workspace, &toolchain);
        // Apart, because one invocation would unify their features: the kernel's libpks has none.
        let kernel = crate::kernel::build(&guest, workspace, features)?;
        let servers = server::build(&guest, workspace, &images)?;
        let loader = guest.build(&["direct"])?.remove(0);

        let stem = manifest.file_stem().context("a manifest needs a file name")?;
        let dir = workspace.output().join(stem).with_added_extension(features.join("."));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut modules = vec![Module { name: "manifest".into(), file: dir.join("manifest") }];
        for (server, file) in compiled.servers.iter().zip(&servers) {
            let module = Module { name: server.name.clone(), file: dir.join(&server.name) };
            strip(file, &module.file)?;
            modules.push(module);
        }
        replace(&modules[0].file, &seal(&compiled, &modules[1..])?)?;
        let stripped_kernel = dir.join("kernel");
        strip(&kernel, &stripped_kernel)?;
        let symbols = std::iter::once(kernel).chain(servers).collect();
        let system = Self { kernel: stripped_kernel, loader, bundle: dir.join("bundle"), modules, symbols };
        replace(&system.bundle, &system.pack()?)?;
        Ok(system)
    }

    /// The kernel's ELF file as it is booted, without debug sections.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The direct loader's ELF file, for `qemu -kernel`.
    #[must_use]
    pub fn loader(&self) -> &Path {
        &self.loader
    }

    /// The bundle of kernel and modules, for `qemu -initrd`.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The modules in the order in which the kernel sees them: the manifest, then the servers.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The servers among the modules, in manifest order.
    #[must_use]
    pub fn servers(&self) -> &[Module] {
        self.modules.split_first().map_or(&[], |(_manifest, servers)| servers)
    }

    /// The ELF files with debug sections: the kernel's, then each server's in manifest order.
    #[must_use]
    pub fn symbols(&self) -> &[PathBuf] {
        &self.symbols
    }

    /// The same system with one module's bytes replaced, its files in `dir`: for tests of hostile
    /// modules. `None` leaves the module out.
    ///
    /// # Errors
    /// When no module has that name, or a file cannot be written.
    pub fn with_module(&self, name: &str, bytes: Option<&[u8]>, dir: &Path) -> Result<Self> {
        let mut system = self.clone();
        let index = system.modules.iter().position(|module| module.name == name);
        let index = index.with_context(|| format!("no module is called {name}"))?;
        match bytes {
            Some(bytes) => {
                system.modules[index].file = dir.join(name);
                std::fs::write(&system.modules[index].file, bytes)?;
            }
            None => drop(system.modules.remove(index)),
        }
        system.bundle = dir.join("bundle");
        std::fs::write(&system.bundle, system.pack()?)?;
        Ok(system)
    }

    /// The same system whose manifest has the digests of the modules that it has by now, as if the image builder had passed
    /// them: for tests of what the kernel itself finds.
    ///
    /// # Errors
    /// When the manifest is none, or a file cannot be read or written.
    pub fn resealed(&self, dir: &Path) -> Result<Self> {
        let manifest = Manifest::decode(&read(&self.modules[0].file)?)?;
        self.with_module(&self.modules[0].name, Some(&seal(&manifest, self.servers())?), dir)
    }

    fn pack(&self) -> Result<Vec<u8>> {
        let (path, string) = (Self::KERNEL_PATH.to_owned(), "kernel".to_owned());
        let mut members = vec![Member { path, string, data: read(&self.kernel)? }];
        for module in &self.modules {
            let data = read(&module.file)?;
            members.push(Member { path: module.path(), string: module.name.clone(), data });
        }
        bundle::pack(&members)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(modules: &[&str]) -> Self {
        let module = |name: &&str| Module { name: (*name).to_owned(), file: format!("/f/{name}").into() };
        Self {
            kernel: "/f/kernel".into(),
            loader: "/f/direct".into(),
            bundle: "/f/bundle".into(),
            modules: modules.iter().map(module).collect(),
            symbols: ["kernel"]
                .iter()
                .chain(&modules[1..])
                .map(|name| format!("/f/debug/{name}").into())
                .collect(),
        }
    }
}

/// The manifest's encoding, with the digests of the servers' files.
fn seal(manifest: &Manifest, servers: &[Module]) -> Result<Vec<u8>> {
    let digest = |module: &Module| anyhow::Ok(server::digest(&read(&module.file)?));
    let digests = servers.iter().map(digest).collect::<Result<Vec<_>>>()?;
    let named = servers.iter().zip(digests);
    let images: Vec<_> = named.map(|(module, digest)| ImageDigest { module: &module.name, digest }).collect();
    Ok(manifest.encode(&images)?)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Copies an ELF file without its debug sections; symbols stay, for backtraces. Debug sections
/// would be most of what the loader reads and the guest's memory holds.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a file in no directory")?;
    let fresh = tempfile::NamedTempFile::new_in(parent)?.into_temp_path();
    tool::output(Command::new("strip").args(["--strip-debug", "-o"]).arg(&fresh).arg(from))?;
    Ok(fresh.persist(to)?)
}

/// Replaces a file in one step, so that a boot under way keeps the one that it opened.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().context("a file in no directory")?;
    let fresh = tempfile::NamedTempFile::new_in(parent)?.into_temp_path();
    std::fs::write(&fresh, bytes)?;
    Ok(fresh.persist(file)?)
}
