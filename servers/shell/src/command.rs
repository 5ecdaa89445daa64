//! Commands: what a line means.

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// What there is to command.
    Help,
    /// All domains.
    Domains,
    /// Start a server.
    Start(&'a str),
    /// Stop a server.
    Stop(&'a str),
    /// Stop and start a server.
    Restart(&'a str),
    /// The hardware keys.
    Keys,
    /// What a domain holds.
    Caps(&'a str),
    /// All threads.
    Threads,
    /// Memory of the machine.
    Mem,
    /// The kernel's log.
    Log,
    /// Faults, the newest first.
    Faults,
    /// The fault that ended a server last.
    FaultOf(&'a str),
    /// The CPUs.
    Cpus,
    /// Scenarios of the test server.
    PksList,
    /// The same with all that the server tells of each.
    PksListLong,
    /// One of them.
    PksRun(&'a str),
    /// All of them.
    PksAll,
    /// The attacks that this system can be shown.
    AttackList,
    /// One of them, or all.
    Attack(&'a str),
    /// Time since boot.
    Uptime,
    /// Say something.
    Echo(&'a str),
    /// Turn the machine off.
    PowerOff,
    /// Start it again.
    Reboot,
}

/// Each command as it is written, and what it does.
pub const HELP: &[(&str, &str)] = &[
    ("help", "this list"),
    ("domains", "domains: state, key, memory, threads, capabilities, calls"),
    ("start NAME", "start a server"),
    ("stop NAME", "stop a server; it stays stopped"),
    ("restart NAME", "stop and start a server"),
    ("keys", "protection keys and what they are for"),
    ("caps NAME", "capabilities of a domain"),
    ("threads", "threads: state, priority, CPU, rights word"),
    ("mem", "memory of the machine and of each domain"),
    ("cpus", "CPUs: switches, writes of PKRS, entries"),
    ("log", "the kernel's log"),
    ("faults", "reports of faults, the newest first"),
    ("faults NAME", "the fault that ended a server last"),
    ("pks list", "scenarios of the test server"),
    ("pks list long", "the same, with all that it tells of each"),
    ("pks run NAME", "run a scenario"),
    ("pks all", "run all scenarios"),
    ("attack list", "attacks of the adversary, where there is one"),
    ("attack NAME", "make one; `attack all` makes all and gives the score"),
    ("uptime", "time since boot"),
    ("echo TEXT", "say something"),
    ("poweroff", "turn the machine off"),
    ("reboot", "start the machine again"),
];

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError<'a> {
    /// No command has that name.
    #[error("unknown command `{0}`; `help` lists the commands")]
    Unknown(&'a str),
    /// A name is missing.
    #[error("`{0}` needs a name")]
    NameMissing(&'a str),
    /// There is something behind the command.
    #[error("`{0}` does not take `{1}`")]
    Superfluous(&'a str, &'a str),
    /// `pks` and nothing that it knows.
    #[error("`pks` does `list`, `list long`, `run NAME` and `all`")]
    Pks,
}

/// The commands of a line, which has `;` between them.
pub fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(';').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads one command.
///
/// # Errors
/// [`CommandError`].
pub fn parse<'a>(text: &'a str) -> Result<Command<'a>, CommandError<'a>> {
    let (word, rest) = first_word(text);
    let plain =
        |command| if rest.is_empty() { Ok(command) } else { Err(CommandError::Superfluous(word, rest)) };
    let named = |command: fn(&'a str) -> Command<'a>| name(word, rest).map(command);
    match word {
        "help" => plain(Command::Help),
        "domains" => plain(Command::Domains),
        "start" => named(Command::Start),
        "stop" => named(Command::Stop),
        "restart" => named(Command::Restart),
        "keys" => plain(Command::Keys),
        "caps" => named(Command::Caps),
        "threads" => plain(Command::Threads),
        "mem" => plain(Command::Mem),
        "log" => plain(Command::Log),
        "faults" if rest.is_empty() => Ok(Command::Faults),
        "faults" => named(Command::FaultOf),
        "cpus" => plain(Command::Cpus),
        "pks" => pks(rest),
        "attack" if rest == "list" => Ok(Command::AttackList),
        "attack" => named(Command::Attack),
        "uptime" => plain(Command::Uptime),
        "echo" => Ok(Command::Echo(rest)),
        "poweroff" => plain(Command::PowerOff),
        "reboot" => plain(Command::Reboot),
        _ => Err(CommandError::Unknown(word)),
    }
}

fn pks(text: &str) -> Result<Command<'_>, CommandError<'_>> {
    let (word, rest) = first_word(text);
    match (word, rest) {
        ("list", "") => Ok(Command::PksList),
        ("list", "long") => Ok(Command::PksListLong),
        ("all", "") | ("run", "all") => Ok(Command::PksAll),
        ("run", _) => name("pks run", rest).map(Command::PksRun),
        _ => Err(CommandError::Pks),
    }
}

fn name<'a>(word: &'a str, rest: &'a str) -> Result<&'a str, CommandError<'a>> {
    match first_word(rest) {
        ("", _) => Err(CommandError::NameMissing(word)),
        (name, "") => Ok(name),
        (_, more) => Err(CommandError::Superfluous(word, more)),
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_command_of_the_help_is_understood() {
        for (written, _) in HELP {
            assert!(parse(written).is_ok(), "{written}");
        }
    }

    #[test]
    fn attacks_are_listed_or_made() {
        assert_eq!(parse("attack list"), Ok(Command::AttackList));
        assert_eq!(parse("attack all"), Ok(Command::Attack("all")));
        assert_eq!(parse("attack"), Err(CommandError::NameMissing("attack")));
    }

    #[test]
    fn lines_are_split_and_words_found() {
        let parts: Vec<_> = split(" domains ; ;echo  a  b;pks run S1 ").map(parse).collect();
        assert_eq!(parts, [Ok(Command::Domains), Ok(Command::Echo("a  b")), Ok(Command::PksRun("S1"))]);
        assert_eq!(split(" ; ").count(), 0);
        assert_eq!(parse("pks run all"), Ok(Command::PksAll));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("dominas"), Err(CommandError::Unknown("dominas")));
        assert_eq!(parse("stop"), Err(CommandError::NameMissing("stop")));
        assert_eq!(parse("pks run"), Err(CommandError::NameMissing("pks run")));
        assert_eq!(parse("stop a b"), Err(CommandError::Superfluous("stop", "b")));
        assert_eq!(parse("keys now"), Err(CommandError::Superfluous("keys", "now")));
        assert_eq!(parse("pks"), Err(CommandError::Pks));
        assert_eq!(parse("pks list all"), Err(CommandError::Pks));
    }
}
