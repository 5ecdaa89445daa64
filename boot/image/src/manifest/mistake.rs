//! What can be wrong with a manifest, and how it is said.

use std::path::{Path, PathBuf};

use libpks::budget::{BudgetError, Share};

/// A mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; none for a mistake of the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl Mistake {
    pub(super) fn of_file(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), line: None, problem }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl std::error::Error for Mistake {}

/// Everything that the front end complains about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its variant means")]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Toml(String),
    #[error("the file that this one extends {0}")]
    Base(String),
    #[error("the file that another one extends cannot extend a third")]
    ExtendsTwice,
    #[error("the first server must be `init`, which starts the others")]
    NoInit,
    #[error("there are {0} servers; a boot takes at most {1}")]
    TooManyServers(usize, usize),
    #[error("`{0}` is no name: 1 to 31 of a-z, 0-9, _ and -, a letter first")]
    BadName(String),
    #[error("a server cannot be called `{0}`: a boot file of that name exists already")]
    ReservedName(String),
    #[error("server `{0}` is there twice")]
    DuplicateServer(String),
    #[error("priority {0} is not between 0 and 255")]
    Priority(i64),
    #[error("`{0}` is no size: write a number and KiB or MiB, such as \"64 KiB\"")]
    BadSize(String),
    #[error("{0} bytes are not a positive multiple of 4 KiB")]
    UnalignedSize(u64),
    #[error("a stack of {0} bytes is too large; at most {1} are possible")]
    StackTooLarge(u64, u64),
    #[error("{activations} stacks of {stack} bytes do not fit a memory quota of {memory} bytes")]
    QuotaTooSmall { activations: u16, stack: u64, memory: u64 },
    #[error("{0} activations are not between 1 and 64")]
    Activations(i64),
    #[error("a budget of {ms} ms every {every_ms} ms cannot be: {error}")]
    Budget { ms: i64, every_ms: i64, error: BudgetError },
    #[error("an overrun of {0} ms is not between {1} and {2} ms")]
    Overrun(i64, u64, u64),
    #[error(
        "with server `{server}` the budgets come to more than {most} of a CPU, which is all that can be promised"
    )]
    TooMuchTime { server: String, most: Share },
    #[error("endpoint `{endpoint}` has two providers: `{first}` and `{second}`")]
    TwoProviders { endpoint: String, first: String, second: String },
    #[error("server `{server}` uses endpoint `{endpoint}`, which no server provides")]
    UnknownEndpoint { server: String, endpoint: String },
    #[error("server `{0}` uses its own endpoint `{1}`: the call would wait for itself")]
    UsesItself(String, String),
    #[error("server `{0}` uses endpoint `{1}` twice")]
    UsedTwice(String, String),
    #[error("servers call each other in a circle: {0}; mark one of these uses with `cycle = true`")]
    Cycle(String),
    #[error("`{0}` is no right to an endpoint: they are call and grant")]
    UnknownRight(String),
    #[error("a use of an endpoint needs the right `call`")]
    UseWithoutCall,
    #[error("badge {0} is negative")]
    Badge(i64),
    #[error("ports {0:#x} to {1:#x} are no range within 0 to 0xffff")]
    PortRange(i64, i64),
    #[error("ports {0:#x} to {1:#x} are refused to every server: {2} is there")]
    ForbiddenPorts(u16, u16, &'static str),
    #[error("ports {from:#x} to {to:#x} of server `{server}` overlap ports of server `{other}`")]
    PortOverlap { server: String, other: String, from: u16, to: u16 },
    #[error("interrupt {0} is not between 0 and 255")]
    Irq(i64),
    #[error("interrupt {0} is refused to every server: it belongs to the {1}")]
    ForbiddenIrq(u8, &'static str),
    #[error("interrupt {irq} goes to both `{first}` and `{second}`")]
    IrqTwice { irq: u8, first: String, second: String },
    #[error("`{0}` is no power: they are {1}")]
    UnknownPower(String, String),
    #[error("the power `all` is for `init` alone; name those that server `{0}` needs")]
    AllPowers(String),
    #[error("the power `self-test` is only for a manifest of `kind = \"demo\"` or `\"test\"`")]
    SelfTestInPlain,
    #[error("the power `self-test` goes to both `{0}` and `{1}`; in a demo one server may have it")]
    SelfTestTwice(String, String),
    #[error("`{0}` is no time: write a number and ms or s, such as \"100 ms\", at most an hour")]
    BadTime(String),
    #[error("the longest wait, {longest} ms, is shorter than the first, {first} ms")]
    BackoffBackwards { first: u32, longest: u32 },
    #[error("{0:#x} is none of the server's own ports")]
    QuiescePort(i64),
    #[error("{0:#x} is no byte")]
    QuiesceValue(i64),
    #[error("arguments of {0} bytes are too long; at most {1} are possible")]
    ArgsTooLong(usize, usize),
}
