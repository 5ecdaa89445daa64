//! What all plans share: the built systems.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};
use image::qemu::Machine;
use image::system::System;
use image::workspace::Workspace;
use tests::plan::BootFn;
use tests::qemu;

/// The manifest of the system that is tested: the one that `just run` boots, and the test link.
pub(crate) const MANIFEST: &str = "boot/test.toml";

type Built = Result<(Arc<Workspace>, Arc<System>), String>;

/// Builds the system when the first boot needs it, and once.
#[derive(Debug)]
pub(crate) struct Lab {
    manifest: &'static str,
    built: OnceLock<Built>,
}

impl Default for Lab {
    fn default() -> Self {
        Self::of(MANIFEST)
    }
}

impl Lab {
    /// The system of this manifest.
    pub(crate) const fn of(manifest: &'static str) -> Self {
        Self { manifest, built: OnceLock::new() }
    }

    /// The workspace and the system.
    ///
    /// # Errors
    /// What stopped the build, for everyone who asks.
    pub(crate) fn built(&self) -> Result<(Arc<Workspace>, Arc<System>)> {
        let build = || -> Result<_> {
            let workspace = Workspace::find()?;
            let system = System::build(&workspace, &workspace.root().join(self.manifest));
            let system = system.context(self.manifest)?;
            Ok((Arc::new(workspace), Arc::new(system)))
        };
        self.built
            .get_or_init(|| build().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(|text| anyhow!(text))
    }

    /// What boots the system on `machine`.
    pub(crate) fn boots(self: &Arc<Self>, machine: Machine) -> BootFn {
        let lab = Arc::clone(self);
        Box::new(move || {
            let (workspace, system) = lab.built()?;
            qemu::boots(workspace, system, machine.clone())()
        })
    }

    /// What boots the system of another manifest on `machine`; it is built at its first boot.
    pub(crate) fn boots_manifest(&self, manifest: &'static str, machine: Machine) -> BootFn {
        Box::new(move || {
            let workspace = Workspace::find()?;
            let system = System::build(&workspace, &workspace.root().join(manifest)).context(manifest)?;
            qemu::boots(Arc::new(workspace), Arc::new(system), machine.clone())()
        })
    }

    /// What boots the system on `machine` with features of the kernel's switched on; it is built at its first boot.
    pub(crate) fn boots_with_kernel(&self, features: &'static [&'static str], machine: Machine) -> BootFn {
        Box::new(move || {
            let workspace = Workspace::find()?;
            let system = System::build_with(&workspace, &workspace.root().join(MANIFEST), features)?;
            qemu::boots(Arc::new(workspace), Arc::new(system), machine.clone())()
        })
    }

    /// What boots the system on `machine` with the bytes of one module changed, or, where `change` gives `None`,
    /// without that module.
    pub(crate) fn boots_with(
        self: &Arc<Self>,
        machine: Machine,
        module: &'static str,
        change_fn: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> BootFn {
        self.boots_changed(machine, module, Seal::Kept, change_fn)
    }

    /// The same with a manifest that has the digest of the changed module.
    pub(crate) fn boots_with_resealed(
        self: &Arc<Self>,
        machine: Machine,
        module: &'static str,
        change_fn: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> BootFn {
        self.boots_changed(machine, module, Seal::Renewed, change_fn)
    }

    fn boots_changed(
        self: &Arc<Self>,
        machine: Machine,
        module: &'static str,
        seal: Seal,
        change_fn: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> BootFn {
        let lab = Arc::clone(self);
        Box::new(move || {
            let (workspace, system) = lab.built()?;
            let original = system.modules().iter().find(|known| known.name == module);
            let original = original.with_context(|| format!("no module is called {module}"))?;
            let changed = change_fn(std::fs::read(&original.file)?);
            let dir = tempfile::Builder::new().prefix("portcullis-hostile-").tempdir()?;
            let mut system = system.with_module(module, changed.as_deref(), dir.path())?;
            if seal == Seal::Renewed {
                system = system.resealed(dir.path())?;
            }
            // QEMU has read the files by the time it connects its ports, so the directory may go then.
            qemu::boots(workspace, Arc::new(system), machine.clone())()
        })
    }
}

/// Whether the manifest's digests are those of the modules as they were built, or as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    Kept,
    Renewed,
}
