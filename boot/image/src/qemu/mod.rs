//! QEMU as a library: describe a [`Machine`], spawn it, and hold the running [`Guest`].
//!
//! The guest always runs under TCG: that is where `-cpu max` has protection keys for supervisor
//! pages, and where a run is the same on every host.

mod arguments;
mod firmware;
mod guest;
mod qmp;

use std::ffi::OsString;
use std::path::PathBuf;

pub use firmware::Firmware;
pub use guest::{Ending, Guest, Verdict};

/// QEMU's program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Who loads the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loader {
    /// Limine by BIOS, from an ISO.
    Limine,
    /// Limine by UEFI (OVMF), from an ISO.
    LimineUefi,
    /// The direct loader by `qemu -kernel`.
    Direct,
}

impl std::fmt::Display for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Limine => "limine",
            Self::LimineUefi => "limine-uefi",
            Self::Direct => "direct",
        })
    }
}

/// What an ISO is presented as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Medium {
    /// A CD in an AHCI drive.
    #[default]
    Cd,
    /// A USB stick at an xHCI controller.
    UsbStick,
}

/// QEMU's machine type: the chipset around the CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chipset {
    /// Q35 with ICH9.
    #[default]
    Q35,
    /// i440FX with PIIX3 (`pc`).
    I440Fx,
}

/// The most page-table levels that the CPU offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Paging {
    /// Four: `la57` is taken off the CPU model.
    Four,
    /// Five, if the CPU model has them.
    Five,
}

/// What is at the other end of a serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// There is no such port.
    Absent,
    /// A port whose output is dropped.
    Null,
    /// This process's standard input and output.
    Stdio,
    /// The same on a terminal: QEMU's monitor is at Ctrl-A C, Ctrl-A X ends QEMU, Ctrl-C goes to
    /// the guest.
    Terminal,
    /// Output goes to a file, which is made anew.
    File(PathBuf),
    /// QEMU connects to a Unix socket that somebody listens at. Nothing is lost: the guest does not
    /// run before it is connected.
    Connect(PathBuf),
    /// QEMU listens at a Unix socket. Output is dropped while nobody is connected.
    Listen(PathBuf),
}

/// Deterministic time: the guest's clock counts instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icount {
    /// One instruction takes 2^`shift` nanoseconds, 0..=10.
    pub shift: u8,
    /// Whether a CPU that waits sleeps in real time; otherwise time jumps to the next timer.
    pub sleep: bool,
}

/// QEMU's own log (`-d`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugLog {
    /// What is logged, such as `int,cpu_reset,guest_errors`.
    pub items: String,
    /// The file that it goes to.
    pub file: PathBuf,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's translator, which emulates every feature of the model `max`.
    Tcg,
    /// The host's CPU, with the features that KVM passes on. PKS is none of them.
    Kvm,
}

/// A machine to boot. Every field may be set; the methods are for writing it in one expression.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Who loads the kernel.
    pub loader: Loader,
    /// What Limine's ISO is presented as; the direct loader has no medium.
    pub medium: Medium,
    /// The machine type.
    pub chipset: Chipset,
    /// The number of CPUs, 1..=255.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The most page-table levels.
    pub paging: Paging,
    /// The CPU model and its feature changes as `-cpu` takes them, such as `max` or `qemu64,+pks`.
    pub cpu: String,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The kernel command line.
    pub cmdline: String,
    /// COM1, the console.
    pub serial1: Serial,
    /// COM2, the test link.
    pub serial2: Serial,
    /// Deterministic time; off by default.
    pub icount: Option<Icount>,
    /// The TCP port on this host where QEMU's gdb stub listens.
    pub gdb_port: Option<u16>,
    /// Whether the CPUs wait for a debugger's `continue`.
    pub stopped: bool,
    /// Whether a guest that resets starts again; otherwise QEMU ends, with [`Verdict::Reset`].
    pub reboots: bool,
    /// QEMU's own log.
    pub debug_log: Option<DebugLog>,
    /// More arguments, at the end.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// A Q35 machine with 1 CPU of model `max`, 256 MiB, 4 levels, an empty command line, and serial
    /// ports whose output is dropped (COM1) or that are not there (COM2).
    #[must_use]
    pub fn new(loader: Loader) -> Self {
        Self {
            loader,
            medium: Medium::Cd,
            chipset: Chipset::Q35,
            cpus: 1,
            memory_mib: 256,
            paging: Paging::Four,
            cpu: "max".into(),
            accelerator: Accelerator::Tcg,
            cmdline: String::new(),
            serial1: Serial::Null,
            serial2: Serial::Absent,
            icount: None,
            gdb_port: None,
            stopped: false,
            reboots: false,
            debug_log: None,
            extra: Vec::new(),
        }
    }

    /// Sets the machine type.
    #[must_use]
    pub fn chipset(mut self, chipset: Chipset) -> Self {
        self.chipset = chipset;
        self
    }

    /// Sets the number of CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets the memory size in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Sets the most page-table levels.
    #[must_use]
    pub fn paging(mut self, paging: Paging) -> Self {
        self.paging = paging;
        self
    }

    /// Sets the CPU model.
    #[must_use]
    pub fn cpu(mut self, model: impl Into<String>) -> Self {
        self.cpu = model.into();
        self
    }

    /// Sets what executes the guest's instructions.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = accelerator;
        self
    }

    /// Sets the kernel command line.
    #[must_use]
    pub fn cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.cmdline = cmdline.into();
        self
    }

    /// Sets what the console (COM1) goes to.
    #[must_use]
    pub fn serial1(mut self, serial: Serial) -> Self {
        self.serial1 = serial;
        self
    }

    /// Sets what the test link (COM2) goes to.
    #[must_use]
    pub fn serial2(mut self, serial: Serial) -> Self {
        self.serial2 = serial;
        self
    }

    /// Makes time count instructions.
    #[must_use]
    pub fn icount(mut self, icount: Icount) -> Self {
        self.icount = Some(icount);
        self
    }

    /// Lets QEMU's gdb stub listen, the CPUs stopped until a debugger continues them.
    #[must_use]
    pub fn gdb(mut self, port: u16) -> Self {
        self.gdb_port = Some(port);
        self.stopped = true;
        self
    }

    /// Adds arguments at the end of QEMU's command line.
    #[must_use]
    pub fn extra(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.extra.extend(arguments.into_iter().map(Into::into));
        self
    }
}
