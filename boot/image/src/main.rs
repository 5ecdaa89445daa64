//! The program `image`: builds the boot images of Portcullis and runs them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use image::limine::Limine;
use image::run::Request;
use image::system::System;
use image::workspace::Workspace;
use image::{doctor, gdb, iso, miri, run};

#[derive(Parser)]
#[command(about, max_term_width = 100)]
struct Options {
    /// The project's root directory, instead of looking for it from the current one upwards.
    #[arg(long)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build kernel, servers and direct loader, and put the boot files together.
    Build(What),
    /// Build, and write an ISO for CD and USB stick, BIOS and UEFI.
    Iso {
        #[command(flatten)]
        what: What,
        /// The kernel command line.
        #[arg(long, default_value = "")]
        cmdline: String,
        /// Where the ISO goes [default: portcullis.iso in the boot directory].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Build, and write the bundle for the direct loader.
    Bundle {
        #[command(flatten)]
        what: What,
        /// Where the bundle goes [default: it stays in the boot directory].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Build, and boot in QEMU with the serial console on the terminal.
    #[command(after_help = format!("The keys and their values:\n{}", Request::KEYS))]
    Run {
        #[command(flatten)]
        what: What,
        /// Write QEMU's log of interrupts, resets and guest errors to qemu.log in the boot directory.
        #[arg(long)]
        log: bool,
        /// What to boot on; all of it may be left out.
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<String>,
    },
    /// Build, boot in QEMU with stopped CPUs, and debug with gdb.
    #[command(after_help = format!("The keys and their values:\n{}", Request::KEYS))]
    Gdb {
        /// What to boot on; all of it may be left out.
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<String>,
        /// Arguments for gdb.
        #[arg(last = true)]
        gdb: Vec<String>,
    },
    /// Say which tools are here, and what is missing.
    Doctor,
    /// Run the pure code's tests under Miri; says SKIP, with the reason, where Miri cannot be had.
    Miri {
        /// Parts of names of tests [default: all tests].
        filters: Vec<String>,
    },
}

#[derive(clap::Args)]
struct What {
    /// The manifest [default: boot/system.toml].
    #[arg(long)]
    manifest: Option<PathBuf>,
}

impl What {
    fn build(self, workspace: &Workspace) -> Result<System> {
        System::build(workspace, &self.manifest.unwrap_or_else(|| workspace.system_manifest()))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match perform(options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(options: Options) -> Result<u8> {
    let workspace = options.root.map_or_else(Workspace::find, |root| Workspace::at(&root))?;
    match options.task {
        Task::Build(what) => {
            let system = what.build(&workspace)?;
            println!("{}", system.kernel().display());
            system.modules().iter().for_each(|module| println!("{}", module.file.display()));
            println!("{}\n{}", system.loader().display(), system.bundle().display());
        }
        Task::Iso { what, cmdline, out } => {
            let limine = Limine::find()?;
            let system = what.build(&workspace)?;
            let out = out.unwrap_or_else(|| workspace.output().join("portcullis.iso"));
            iso::write(&system, &limine, &cmdline, &out)?;
            limine.bios_install(&workspace, &out)?;
            println!("{}", out.display());
        }
        Task::Bundle { what, out } => {
            let system = what.build(&workspace)?;
            let out = out.unwrap_or_else(|| system.bundle().to_owned());
            if out != system.bundle() {
                std::fs::copy(system.bundle(), &out)
                    .with_context(|| format!("cannot write {}", out.display()))?;
            }
            println!("{}", out.display());
        }
        Task::Run { what, log, words } => {
            let manifest = what.manifest.unwrap_or_else(|| workspace.system_manifest());
            return run::run(&workspace, &manifest, &Request::parse(&words)?, log);
        }
        Task::Gdb { words, gdb } => gdb::run(&workspace, &Request::parse(&words)?, &gdb)?,
        Task::Doctor => return Ok(doctor::report(&workspace)),
        Task::Miri { filters } => return miri::run(&workspace, &filters),
    }
    Ok(0)
}
