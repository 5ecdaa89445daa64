//! `image run`: boots the system for a person.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libpks::sharing;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::limine::Limine;
use crate::qemu::{Accelerator, DebugLog, Ending, Loader, Machine, Paging, Serial, Verdict};
use crate::system::System;
use crate::tool;
use crate::workspace::Workspace;

/// How often a running guest's host looks whether a signal has come.
const SIGNAL_CHECK: Duration = Duration::from_millis(200);

/// The loader that was asked for; `None` is `auto`.
type LoaderWish = Option<Loader>;

/// What `KEY=VALUE` words ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    loader: LoaderWish,
    cpus: u32,
    memory_mib: u64,
    paging: Paging,
    cpu: String,
    accelerator: Accelerator,
    protection: Option<String>,
    views: Option<String>,
    command: Option<String>,
}

impl Request {
    /// The keys and their values, for help texts and error messages.
    pub const KEYS: &str = concat!(
        "  loader=auto|limine|limine-uefi|direct   who loads the kernel (auto: Limine if found, else direct)\n",
        "  cpus=N                                  number of CPUs (1)\n",
        "  mem=SIZE                                memory, such as 128M or 4G (256M)\n",
        "  paging=4|5                              page-table levels (4)\n",
        "  cpu=MODEL                               QEMU CPU model, such as max or qemu64 (max)\n",
        "  accel=tcg|kvm                           QEMU's translator, or the host's CPU (tcg)\n",
        "  protection=pks|pku                      what checks the keys (the best that the CPU has)\n",
        "  views=together|apart|N                  domains share views, each has its own, or up to N in each (together)\n",
        "  cmd=TEXT                                a command line for the shell, such as \"domains; poweroff\"",
    );

    /// Reads words such as `cpus=4`. The value of `cmd=` is taken as it is.
    ///
    /// # Errors
    /// For a word without `=`, an unknown key, a key given twice, and a value that the key does not
    /// take; each message says what is possible.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self> {
        let mut request = Self {
            loader: None,
            cpus: 1,
            memory_mib: 256,
            paging: Paging::Four,
            cpu: "max".into(),
            accelerator: Accelerator::Tcg,
            protection: None,
            views: None,
            command: None,
        };
        let mut seen = Vec::new();
        for word in words {
            let word = word.as_ref();
            let (key, value) = word
                .split_once('=')
                .with_context(|| format!("`{word}` is not KEY=VALUE; the keys are\n{}", Self::KEYS))?;
            ensure!(!seen.contains(&key), "`{key}=` is given twice");
            seen.push(key);
            request.set(key, value)?;
        }
        Ok(request)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "loader" => self.loader = parse_loader(value)?,
            "cpus" => self.cpus = parse_cpus(value)?,
            "mem" => self.memory_mib = parse_memory(value)?,
            "paging" => self.paging = parse_paging(value)?,
            "cpu" => {
                ensure!(!value.is_empty(), "`cpu=` needs a QEMU CPU model, such as max");
                self.cpu = value.to_owned();
            }
            "accel" => {
                self.accelerator = match value {
                    "tcg" => Accelerator::Tcg,
                    "kvm" => Accelerator::Kvm,
                    _ => bail!("`accel={value}`: the accelerators are tcg and kvm"),
                }
            }
            "protection" => {
                ensure!(
                    matches!(value, "pks" | "pku" | "views"),
                    "`protection={value}`: what checks rights words is pks, pku or views"
                );
                self.protection = Some(value.to_owned());
            }
            "views" => {
                ensure!(
                    sharing::room(Some(value)).is_some(),
                    "`views={value}`: domains are together or apart, or 1 to {} in each",
                    sharing::ROOM
                );
                self.views = Some(value.to_owned());
            }
            "cmd" => {
                ensure!(!value.contains(['\n', '\r', '\0']), "`cmd=` must be one line");
                self.command = Some(value.trim().to_owned());
            }
            _ => bail!("unknown key `{key}=`; the keys are\n{}", Self::KEYS),
        }
        Ok(())
    }

    /// The loader to use, and why.
    ///
    /// # Errors
    /// When Limine was asked for and is not there.
    pub fn choose_loader(&self) -> Result<(Loader, String)> {
        match self.loader {
            Some(Loader::Direct) => Ok((Loader::Direct, "asked for".into())),
            Some(loader) => {
                let limine = Limine::find()?;
                Ok((loader, format!("asked for; binaries from {}", limine.dir().display())))
            }
            None => Ok(choose_automatically()),
        }
    }

    /// The machine that was asked for, with the console on this process's terminal, or on its
    /// standard output when it has none.
    #[must_use]
    pub fn machine(&self, loader: Loader) -> Machine {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut machine = Machine::new(loader)
            .cpus(self.cpus)
            .memory_mib(self.memory_mib)
            .paging(self.paging)
            .cpu(self.cpu.clone())
            .accelerator(self.accelerator)
            .serial1(if terminal { Serial::Terminal } else { Serial::Stdio });
        let protection = self.protection.iter().map(|value| format!("protection={value}"));
        let views = self.views.iter().map(|value| format!("views={value}"));
        let command = self.command.iter().map(|command| format!("cmd={command}"));
        machine.cmdline = protection.chain(views).chain(command).collect::<Vec<_>>().join(" ");
        // Somebody at the terminal who types `reboot` means it; a script would loop for ever.
        machine.reboots = terminal && self.command.is_none();
        machine
    }
}

fn choose_automatically() -> (Loader, String) {
    match Limine::find() {
        Ok(limine) if tool::find("xorriso").is_some() => {
            (Loader::Limine, format!("found in {}", limine.dir().display()))
        }
        Ok(limine) => {
            let dir = limine.dir().display();
            (Loader::Direct, format!("Limine is in {dir}, but xorriso is not installed"))
        }
        Err(_) => (Loader::Direct, "no Limine found; `just doctor` says where it was looked for".into()),
    }
}

fn parse_loader(value: &str) -> Result<LoaderWish> {
    Ok(match value {
        "auto" => None,
        "limine" => Some(Loader::Limine),
        "limine-uefi" => Some(Loader::LimineUefi),
        "direct" => Some(Loader::Direct),
        _ => bail!("`loader={value}`: the loaders are auto, limine, limine-uefi, direct"),
    })
}

fn parse_cpus(value: &str) -> Result<u32> {
    match value.parse() {
        Ok(cpus @ 1..=255) => Ok(cpus),
        _ => bail!("`cpus={value}`: a number of CPUs is 1 to 255"),
    }
}

fn parse_paging(value: &str) -> Result<Paging> {
    match value {
        "4" => Ok(Paging::Four),
        "5" => Ok(Paging::Five),
        _ => bail!("`paging={value}`: the page tables have 4 or 5 levels"),
    }
}

fn parse_memory(value: &str) -> Result<u64> {
    let digits = value.trim_end_matches(['m', 'M', 'g', 'G']);
    let factor = match &value[digits.len()..] {
        "" | "m" | "M" => Some(1),
        "g" | "G" => Some(1024),
        _ => None,
    };
    let mib = digits.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
    match mib {
        Some(mib @ 16..=1_048_576) => Ok(mib),
        _ => bail!("`mem={value}`: a memory size is 16M to 1024G, such as 128M or 4G"),
    }
}

/// Builds and boots the system of a manifest, with QEMU's own log if `log`; gives the exit code for our process
/// (see [`exit_code`]).
///
/// # Errors
/// When something does not build, or QEMU does not start.
pub fn run(workspace: &Workspace, manifest: &Path, request: &Request, log: bool) -> Result<u8> {
    let (loader, why) = request.choose_loader()?;
    let system = System::build(workspace, manifest)?;
    eprintln!("image: loader {loader} ({why})");
    let mut machine = request.machine(loader);
    if log {
        let file = workspace.output().join("qemu.log");
        eprintln!("image: QEMU's log goes to {}", file.display());
        machine.debug_log = Some(DebugLog { items: "int,cpu_reset,guest_errors".into(), file });
    }
    if machine.serial1 == Serial::Terminal {
        eprintln!("image: Ctrl-A X ends QEMU");
    }
    let told_to_end = termination()?;
    let mut guest = machine.spawn(workspace, &system)?;
    let ending = loop {
        if let Some(ending) = guest.wait(SIGNAL_CHECK)? {
            break ending;
        }
        // Returning drops the guest, so that QEMU does not outlive this process.
        ensure!(!told_to_end.load(Ordering::Relaxed), "ended by a signal, and QEMU with it");
    };
    if let Some(text) = explain(&ending) {
        eprintln!("image: {text}");
    }
    Ok(exit_code(&ending.verdict))
}

/// A flag that a signal to end sets.
fn termination() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot watch for signals")?;
    }
    Ok(flag)
}

/// The exit code of `image run`: 0 for power-off, pass, and QEMU ended by its user; 3 for an
/// unasked reset; 35 and 37 (QEMU's own) for failure and kernel panic; 4 for anything else. 1 is
/// for what goes wrong before the guest runs.
#[must_use]
pub fn exit_code(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Pass | Verdict::PowerOff | Verdict::Closed => 0,
        Verdict::Reset => 3,
        Verdict::Other(_) => 4,
        Verdict::Fail => 35,
        Verdict::Panic => 37,
    }
}

fn explain(ending: &Ending) -> Option<String> {
    match ending.verdict {
        Verdict::Pass | Verdict::PowerOff | Verdict::Closed => None,
        Verdict::Fail => Some("the guest reports failure".into()),
        Verdict::Panic => Some("the kernel panicked".into()),
        Verdict::Reset => Some("the machine reset (asked to, or a triple fault)".into()),
        Verdict::Other(_) => Some(format!("QEMU ended with {}", ending.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_machine() {
        let words = ["cpus=4", "mem=4G", "paging=5", "cpu=qemu64,-pks", "loader=direct", "cmd=a=b; poweroff"];
        let request = Request::parse(&words).expect("good words");
        assert_eq!(request.choose_loader().expect("direct").0, Loader::Direct);
        let machine = request.machine(Loader::Direct);
        assert_eq!((machine.cpus, machine.memory_mib, machine.paging), (4, 4096, Paging::Five));
        assert_eq!(machine.cpu, "qemu64,-pks");
        assert_eq!(machine.cmdline, "cmd=a=b; poweroff");
        let words = ["protection=pku", "views=apart", "accel=kvm", "cmd=help"];
        let machine = Request::parse(&words).expect("good words").machine(Loader::Direct);
        assert_eq!(machine.cmdline, "protection=pku views=apart cmd=help");
        assert_eq!(machine.accelerator, Accelerator::Kvm);
        assert!(!machine.reboots);
        assert_eq!(Request::parse::<&str>(&[]).expect("none").machine(Loader::Direct).cmdline, "");
    }

    #[test]
    fn each_mistake_has_its_message() {
        let cases = [
            ("domains", "`domains` is not KEY=VALUE"),
            ("cpu5=x", "unknown key `cpu5=`"),
            ("loader=grub", "the loaders are auto, limine"),
            ("cpus=0", "1 to 255"),
            ("cpus=many", "1 to 255"),
            ("mem=1", "a memory size is"),
            ("mem=4GG", "a memory size is"),
            ("mem=99999999999999999999G", "a memory size is"),
            ("mem=\u{e9}", "a memory size is"),
            ("paging=3", "4 or 5 levels"),
            ("cpu=", "needs a QEMU CPU model"),
            ("accel=tcc", "are tcg and kvm"),
            ("protection=all", "is pks, pku or views"),
            ("views=both", "together or apart"),
            ("cmd=a\nb", "must be one line"),
        ];
        for (word, expected) in cases {
            let message = format!("{:#}", Request::parse(&[word]).expect_err(word));
            assert!(message.contains(expected), "{word}: {message}");
        }
        let twice = Request::parse(&["cpus=1", "cpus=2"]).expect_err("twice").to_string();
        assert_eq!(twice, "`cpus=` is given twice");
    }

    #[test]
    fn only_a_good_end_is_zero() {
        use Verdict::*;
        for verdict in [Fail, Panic, Reset, Other(Some(1)), Other(None)] {
            assert_ne!(exit_code(&verdict), 0, "{verdict:?}");
        }
        assert_eq!([Pass, PowerOff, Closed].map(|v| exit_code(&v)), [0; 3]);
    }
}
