//! Which capabilities a server gets, under which names, and what it is told at its start: the manifest's word, and
//! nothing beyond it but the right to write to the kernel's log.
//!
//! | name | names | rights |
//! |---|---|---|
//! | `serve:E` | endpoint `E`, which it provides | serve |
//! | `self:E` | the same | call, with the badge of the server itself |
//! | `E` | endpoint `E`, which it uses | those of the manifest, with a badge |
//! | `ports:F` | the range of ports from `F` (hexadecimal) on | read, write |
//! | `irq:N` | interrupt line `N` | manage |
//! | `log` | the kernel's log | write; read too with the power `log` |
//! | `power`, `inspect`, `self-test`, `key-pool` | what the powers of these names stand for | all but grant |
//! | `quota`, `module:M` | with the power `spawn`: memory for domains, and the images | all but grant |

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use libpks::args;
use libpks::cap::CapRights;
use libpks::manifest::{Manifest, PortRange, Powers, ServerEntry, Use};

/// The badge of a server's own capability to its endpoint.
pub const SELF_BADGE: u64 = u64::MAX;
/// Set in badges that stand for a server's place in the manifest; the manifest cannot give such a badge.
const BY_PLACE: u64 = 1 << 63;
/// The server that gets the `cmd=` of the kernel's command line.
const SHELL: &str = "shell";

/// Where a capability is derived from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source<'a> {
    /// An endpoint of the manifest.
    Endpoint(&'a str),
    /// A part of all ports.
    Ports(PortRange),
    /// One of all interrupt lines.
    Irq(u8),
    /// What `init` holds under this name.
    Held(String),
}

/// A capability that a server gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant<'a> {
    /// What the server finds it by.
    pub name: String,
    /// What it is derived from.
    pub source: Source<'a>,
    /// Its rights; what the source lacks of them is left out.
    pub rights: CapRights,
    /// Its badge, 0 for none.
    pub badge: u64,
}

impl<'a> Grant<'a> {
    fn new(name: impl Into<String>, source: Source<'a>, rights: CapRights) -> Self {
        Self { name: name.into(), source, rights, badge: 0 }
    }

    fn badged(self, badge: u64) -> Self {
        Self { badge, ..self }
    }
}

/// All capabilities of the server at position `place` of the manifest; none if there is no such server.
pub fn of_server(manifest: &Manifest, place: usize) -> Vec<Grant<'_>> {
    let Some(entry) = manifest.servers.get(place) else { return Vec::new() };
    let provided = entry.provides.iter().flat_map(|endpoint| {
        let source = Source::Endpoint(endpoint);
        let own = Grant::new(format!("self:{endpoint}"), source.clone(), CapRights::CALL);
        [Grant::new(format!("serve:{endpoint}"), source, CapRights::SERVE), own.badged(SELF_BADGE)]
    });
    let used = entry.uses.iter().map(|used| {
        let source = Source::Endpoint(&used.endpoint);
        Grant::new(used.endpoint.as_str(), source, used.rights).badged(badge(place, used))
    });
    let access = CapRights::READ | CapRights::WRITE;
    let ports =
        entry.ports.iter().map(move |&range| Grant::new(ports_name(&range), Source::Ports(range), access));
    let irqs =
        entry.irqs.iter().map(|&irq| Grant::new(format!("irq:{irq}"), Source::Irq(irq), CapRights::MANAGE));
    provided.chain(used).chain(ports).chain(irqs).chain(of_powers(manifest, entry)).collect()
}

/// Under which name a server gets a range of ports.
pub fn ports_name(range: &PortRange) -> String {
    format!("ports:{:x}", range.from)
}

fn of_powers<'a>(manifest: &'a Manifest, entry: &'a ServerEntry) -> Vec<Grant<'a>> {
    let powers = entry.powers;
    let held = |name: &str, rights| Grant::new(name, Source::Held(name.into()), rights);
    let mut log = CapRights::WRITE;
    log.set(CapRights::READ, powers.contains(Powers::LOG));
    let mut grants = Vec::from([held("log", log)]);
    let all_but_grant = CapRights::all() - CapRights::GRANT;
    for power in [Powers::POWER, Powers::INSPECT, Powers::SELF_TEST, Powers::KEY_POOL] {
        if let Some((word, _)) =
            Powers::WORDS.iter().find(|(_, known)| powers.contains(power) && *known == power)
        {
            grants.push(held(word, all_but_grant));
        }
    }
    if powers.contains(Powers::SPAWN) {
        grants.push(held("quota", all_but_grant));
        let images = manifest.servers.iter().skip(1);
        grants.extend(images.map(|image| held(&format!("module:{}", image.name), all_but_grant)));
    }
    grants
}

/// The badge with which the server at `place` calls: that of the manifest, or one of its own.
pub fn badge(place: usize, used: &Use) -> u64 {
    if used.badge == 0 { BY_PLACE | place as u64 } else { used.badge }
}

/// Whether all servers that call `endpoint` with this badge hold a power, and there is one.
pub fn has_power(manifest: &Manifest, endpoint: &str, caller: u64, power: Powers) -> bool {
    let mut callers = manifest
        .servers
        .iter()
        .enumerate()
        .filter(|(place, entry)| {
            entry.uses.iter().any(|used| used.endpoint == endpoint && badge(*place, used) == caller)
        })
        .peekable();
    callers.peek().is_some() && callers.all(|(_, entry)| entry.powers.contains(power))
}

/// The arguments of a server: what the runtime wants to know, then the manifest's, then for the shell the commands of
/// the kernel's command line.
pub fn arguments(entry: &ServerEntry, command_line: &str) -> String {
    let ServerEntry { priority, stack, activations, args, .. } = entry;
    let mut text = format!("priority={priority} stack={stack} activations={activations}");
    if !args.is_empty() {
        text = format!("{text} {args}");
    }
    if entry.name == SHELL
        && let Some(commands) = args::value(command_line, "cmd")
    {
        text = format!("{text} cmd={commands}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
    use libpks::manifest::{Backoff, RestartPolicy, Tier};

    fn entry(name: &str) -> ServerEntry {
        ServerEntry {
            name: name.to_string(),
            image: name.to_string(),
            priority: 100,
            tier: Tier::Keyed,
            memory: 1 << 20,
            stack: 65536,
            budget: Budget::DEFAULT,
            overrun_ns: OVERRUN_DEFAULT_NS,
            activations: 2,
            restart: RestartPolicy::Restart,
            provides: vec![],
            uses: vec![],
            ports: vec![],
            irqs: vec![],
            powers: Powers::empty(),
            args: String::new(),
            backoff: Backoff::default(),
            quiesce: vec![],
        }
    }

    fn uses(endpoint: &str, badge: u64) -> Use {
        Use { endpoint: endpoint.to_string(), badge, rights: CapRights::CALL }
    }

    fn system() -> Manifest {
        let init = ServerEntry { provides: vec!["supervisor".into()], ..entry("init") };
        let console = ServerEntry {
            provides: vec!["console".into()],
            ports: vec![PortRange { from: 0x3f8, to: 0x3ff }],
            irqs: vec![4],
            powers: Powers::LOG,
            ..entry("console")
        };
        let shell = ServerEntry {
            uses: vec![uses("console", 7), uses("supervisor", 0)],
            powers: Powers::SUPERVISE | Powers::POWER,
            args: "a=b".into(),
            ..entry("shell")
        };
        let guest = ServerEntry { uses: vec![uses("console", 7)], ..entry("guest") };
        let nursery = ServerEntry { powers: Powers::SPAWN, ..entry("nursery") };
        Manifest { servers: vec![init, console, shell, guest, nursery] }
    }

    fn list(place: usize) -> Vec<(String, CapRights, u64)> {
        of_server(&system(), place).into_iter().map(|grant| (grant.name, grant.rights, grant.badge)).collect()
    }

    #[test]
    fn a_server_gets_what_the_manifest_says_and_the_log() {
        let access = CapRights::READ | CapRights::WRITE;
        let expected = [
            ("serve:console", CapRights::SERVE, 0),
            ("self:console", CapRights::CALL, SELF_BADGE),
            ("ports:3f8", access, 0),
            ("irq:4", CapRights::MANAGE, 0),
            ("log", access, 0),
        ];
        assert_eq!(list(1), expected.map(|(name, rights, badge)| (name.to_string(), rights, badge)));
        let guest = [("console", CapRights::CALL, 7), ("log", CapRights::WRITE, 0)];
        assert_eq!(list(3), guest.map(|(name, rights, badge)| (name.to_string(), rights, badge)));
        assert_eq!(of_server(&system(), 5), []);
    }

    #[test]
    fn powers_bring_their_capabilities_and_never_the_right_to_grant() {
        let names = |place| list(place).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(names(2), ["console", "supervisor", "log", "power"]);
        let modules = ["module:console", "module:shell", "module:guest", "module:nursery"];
        assert_eq!(names(4), [&["log", "quota"], &modules[..]].concat());
        for place in [2, 4] {
            assert!(list(place).iter().all(|(_, rights, _)| !rights.contains(CapRights::GRANT)));
        }
    }

    #[test]
    fn callers_are_told_apart_by_their_badges() {
        let manifest = system();
        let shell = badge(2, &manifest.servers[2].uses[1]);
        assert_eq!(shell, BY_PLACE | 2);
        assert!(has_power(&manifest, "supervisor", shell, Powers::SUPERVISE));
        assert!(!has_power(&manifest, "supervisor", shell, Powers::SELF_TEST));
        assert!(!has_power(&manifest, "supervisor", BY_PLACE | 3, Powers::SUPERVISE));
        // Two servers share badge 7, and only one of them has the power.
        assert!(!has_power(&manifest, "console", 7, Powers::POWER));
    }

    #[test]
    fn only_the_shell_gets_the_commands() {
        let manifest = system();
        let line = "test=1 cmd=domains; poweroff";
        let start = "priority=100 stack=65536 activations=2";
        assert_eq!(arguments(&manifest.servers[2], line), format!("{start} a=b cmd=domains; poweroff"));
        assert_eq!(arguments(&manifest.servers[2], "test=1"), format!("{start} a=b"));
        assert_eq!(arguments(&manifest.servers[3], line), start);
    }
}
