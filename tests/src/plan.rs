//! What is to be done in one boot: a machine, exercises, and how the boot must end.

use std::fmt;
use std::time::Duration;

use libpks::proto::testlink::Closing;

use crate::console::Console;
use crate::failure::Failure;
use crate::link::Link;

/// Chooses everything that there is when it is set to 1.
const FULL: &str = "PORTCULLIS_FULL";

/// Whether time does not matter: all configurations, every instruction on every way.
#[must_use]
pub fn is_full() -> bool {
    std::env::var_os(FULL).is_some_and(|set| set == "1")
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest reported success through isa-debug-exit (QEMU's exit code 33).
    Success,
    /// It reported failure (35).
    Failure,
    /// The kernel panicked (37).
    Panic,
    /// It powered off.
    PowerOff,
    /// It reset.
    Reset,
    /// Something else.
    Other(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success (exit code 33)",
            Self::Failure => "failure (exit code 35)",
            Self::Panic => "a kernel panic (exit code 37)",
            Self::PowerOff => "power off",
            Self::Reset => "a reset",
            Self::Other(what) => what,
        })
    }
}

/// The process around a guest. Dropping it kills it.
pub trait Process: Send {
    /// Waits until it ends by itself; `None` if it does not within `limit`.
    fn wait(&mut self, limit: Duration) -> Option<End>;

    /// Runs a line of QEMU's human monitor; gives what it printed.
    ///
    /// # Errors
    /// When the process has no monitor, or it does not answer. The monitor reports its own errors in the text.
    fn monitor(&mut self, line: &str) -> anyhow::Result<String> {
        anyhow::bail!("no monitor for {line:?}")
    }
}

/// A guest that was started.
pub struct Running {
    /// Its second serial port.
    pub link: Link,
    /// Its first serial port.
    pub console: Console,
    /// What runs it.
    pub process: Box<dyn Process>,
}

impl Running {
    /// Waits for the end of the machine.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] if it goes on.
    pub fn wait(&mut self, limit: Duration) -> Result<End, Failure> {
        self.process.wait(limit).ok_or_else(|| Failure::TimedOut { what: "QEMU's end".into(), limit })
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Starts a guest.
pub type BootFn = Box<dyn Fn() -> anyhow::Result<Running> + Send + Sync>;
/// Does an exercise.
pub type RunFn = Box<dyn Fn(&mut Running) -> Result<(), Failure> + Send + Sync>;

/// A test: something that is done with a running guest.
pub struct Exercise {
    /// Its name within the plan.
    pub name: String,
    /// What it does.
    pub run_fn: RunFn,
}

impl Exercise {
    /// An exercise.
    pub fn new(
        name: impl Into<String>,
        run_fn: impl Fn(&mut Running) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), run_fn: Box::new(run_fn) }
    }
}

/// How a boot must end for what was seen in it to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest sends its closing record, whose counts are the harness's own, and reports success, or failure if a
    /// scenario failed.
    Closing,
    /// The exercises leave the guest in this end; it has no test link or cannot use it.
    Exit(End),
    /// The guest goes on for ever (it has nothing to end it with) and is killed. For machines on which
    /// the system cannot run, and where the test link was restarted and has forgotten what it counted.
    Killed,
}

/// A boot and everything that is done in it.
pub struct Plan {
    /// Its name: the first part of the tests' names.
    pub name: String,
    /// Starts the guest.
    pub boot_fn: BootFn,
    /// How long the guest may take until it answers on the test link; `None` if it has none to answer on.
    pub ready_limit: Option<Duration>,
    /// What is done.
    pub exercises: Vec<Exercise>,
    /// How it ends.
    pub ending: Ending,
    /// How long the guest may take for its closing record, and from there to QEMU's end.
    pub end_limit: Duration,
    /// How many of the host's cores it keeps busy.
    pub weight: usize,
    /// Why it cannot be run on this host.
    pub ignored: Option<String>,
}

impl Plan {
    /// A plan for a machine that is ready within 90 s, ends within 45 s, and keeps one core busy.
    #[must_use]
    pub fn new(name: impl Into<String>, boot_fn: BootFn, ending: Ending, exercises: Vec<Exercise>) -> Self {
        Self {
            name: name.into(),
            boot_fn,
            ready_limit: Some(Duration::from_secs(90)),
            exercises,
            ending,
            end_limit: Duration::from_secs(45),
            weight: 1,
            ignored: None,
        }
    }

    /// How many of `all` cores it gets.
    #[must_use]
    pub fn cores(&self, all: usize) -> usize {
        self.weight.clamp(1, all)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("name", &self.name).field("ending", &self.ending).finish_non_exhaustive()
    }
}

/// Whether the guest's closing record says what the harness saw.
///
/// # Errors
/// [`Failure::Miscounted`]. Damaged frames are not compared: each side counts those that it received.
pub fn compare_closing(guest: Closing, harness: Closing) -> Result<(), Failure> {
    let seen = |closing: Closing| Closing { damaged: 0, ..closing };
    if seen(guest) == seen(harness) { Ok(()) } else { Err(Failure::Miscounted { guest, harness }) }
}
