//! Checks what only all servers together can tell: names, endpoints, circles, shared hardware.

use std::collections::BTreeMap;
use std::path::Path;

use libpks::budget::Share;
use libpks::bundle::MAX_MEMBERS;
use libpks::manifest::{INIT, Manifest, Powers};
use toml::Spanned;

use super::{Entry, Kind, Mistake, Problem};

/// A bundle also holds the kernel and the manifest.
const MAX_SERVERS: usize = MAX_MEMBERS - 2;

/// Checks a compiled manifest; `entries` are its servers' tables in the same order.
pub(super) fn check(manifest: &Manifest, entries: &[Entry], kind: Kind, path: &Path) -> Result<(), Mistake> {
    let checker = Checker { manifest, entries };
    if manifest.servers.first().is_none_or(|first| first.name != INIT) {
        return Err(Mistake::of_file(path, Problem::NoInit));
    }
    if entries.len() > MAX_SERVERS {
        return Err(Mistake::of_file(path, Problem::TooManyServers(entries.len(), MAX_SERVERS)));
    }
    checker.names()?;
    checker.time()?;
    let providers = checker.providers()?;
    checker.uses(&providers)?;
    checker.circles(&providers)?;
    checker.ports()?;
    checker.irqs()?;
    checker.self_test(kind)
}

/// Each endpoint's server, by its place in the manifest.
type Providers<'a> = BTreeMap<&'a str, usize>;

struct Checker<'a> {
    manifest: &'a Manifest,
    entries: &'a [Entry<'a>],
}

impl<'a> Checker<'a> {
    fn name(&self, index: usize) -> String {
        self.manifest.servers[index].name.clone()
    }

    fn names(&self) -> Result<(), Mistake> {
        for (index, server) in self.manifest.servers.iter().enumerate() {
            if self.manifest.servers[..index].iter().any(|earlier| earlier.name == server.name) {
                let entry = &self.entries[index];
                return Err(entry.mistake(&entry.table.name, Problem::DuplicateServer(server.name.clone())));
            }
        }
        Ok(())
    }

    /// All budgets together are no more than one CPU has: so nobody is kept from running by those that are more urgent,
    /// on whatever CPU they are.
    fn time(&self) -> Result<(), Mistake> {
        let mut sum = Share::NONE;
        for (index, server) in self.manifest.servers.iter().enumerate() {
            sum = sum.plus(server.budget.share()).ok_or_else(|| {
                let entry = &self.entries[index];
                let problem = Problem::TooMuchTime { server: server.name.clone(), most: Share::TOTAL };
                match &entry.table.budget {
                    Some(budget) => entry.mistake(budget, problem),
                    None => entry.mistake(&entry.table.name, problem),
                }
            })?;
        }
        Ok(())
    }

    fn providers(&self) -> Result<Providers<'a>, Mistake> {
        let mut providers = Providers::new();
        for (index, entry) in self.entries.iter().enumerate() {
            for endpoint in &entry.table.provides {
                if let Some(first) = providers.insert(endpoint.get_ref(), index) {
                    let (first, second) = (self.name(first), self.name(index));
                    let endpoint_name = endpoint.get_ref().clone();
                    let problem = Problem::TwoProviders { endpoint: endpoint_name, first, second };
                    return Err(entry.mistake(endpoint, problem));
                }
            }
        }
        Ok(providers)
    }

    fn uses(&self, providers: &Providers) -> Result<(), Mistake> {
        for (index, entry) in self.entries.iter().enumerate() {
            let mut seen = Vec::new();
            for used in &entry.table.uses {
                let endpoint = used.get_ref().endpoint.clone();
                let server = self.name(index);
                let problem = match providers.get(endpoint.as_str()) {
                    None => Problem::UnknownEndpoint { server, endpoint },
                    Some(&provider) if provider == index => Problem::UsesItself(server, endpoint),
                    Some(_) if seen.contains(&endpoint) => Problem::UsedTwice(server, endpoint),
                    Some(_) => {
                        seen.push(endpoint);
                        continue;
                    }
                };
                return Err(entry.mistake(used, problem));
            }
        }
        Ok(())
    }

    /// Finds a circle of calls none of whose uses is marked.
    fn circles(&self, providers: &Providers) -> Result<(), Mistake> {
        let mut search = Search { checker: self, providers, done: Vec::new(), chain: Vec::new() };
        (0..self.entries.len()).try_for_each(|index| search.visit(index))
    }

    fn ports(&self) -> Result<(), Mistake> {
        let servers = self.manifest.servers.iter().enumerate();
        let mut taken = Vec::new();
        for (index, range, at) in servers.flat_map(|(index, server)| {
            let places = &self.entries[index].table.ports;
            server.ports.iter().zip(places).map(move |(range, at)| (index, *range, at))
        }) {
            if let Some((other, _)) = taken.iter().find(|(_, earlier)| range.overlaps(*earlier)) {
                let (server, other) = (self.name(index), self.name(*other));
                let problem = Problem::PortOverlap { server, other, from: range.from, to: range.to };
                return Err(self.entries[index].mistake(at, problem));
            }
            taken.push((index, range));
        }
        Ok(())
    }

    fn irqs(&self) -> Result<(), Mistake> {
        let mut taken = BTreeMap::new();
        for (index, server) in self.manifest.servers.iter().enumerate() {
            for (&irq, at) in server.irqs.iter().zip(&self.entries[index].table.irqs) {
                if let Some(first) = taken.insert(irq, index) {
                    let (first, second) = (self.name(first), self.name(index));
                    return Err(self.entries[index].mistake(at, Problem::IrqTwice { irq, first, second }));
                }
            }
        }
        Ok(())
    }

    /// `init` may hold the power to hand it on. Else it is one server's in a demo system; in a test
    /// system the test link has it too.
    fn self_test(&self, kind: Kind) -> Result<(), Mistake> {
        let mut holder = None;
        for (index, entry) in self.entries.iter().enumerate() {
            let Some(word) = entry.table.powers.iter().find(|word| is_self_test(word)) else { continue };
            if kind == Kind::Plain {
                return Err(entry.mistake(word, Problem::SelfTestInPlain));
            }
            if index == 0 || kind == Kind::Test {
                continue;
            }
            if let Some(first) = holder.replace(index) {
                let problem = Problem::SelfTestTwice(self.name(first), self.name(index));
                return Err(entry.mistake(word, problem));
            }
        }
        Ok(())
    }
}

fn is_self_test(word: &Spanned<String>) -> bool {
    Powers::from_word(word.get_ref()) == Some(Powers::SELF_TEST)
}

/// A depth-first search along unmarked uses.
struct Search<'a> {
    checker: &'a Checker<'a>,
    providers: &'a Providers<'a>,
    done: Vec<usize>,
    chain: Vec<usize>,
}

impl Search<'_> {
    fn visit(&mut self, index: usize) -> Result<(), Mistake> {
        if self.done.contains(&index) {
            return Ok(());
        }
        self.chain.push(index);
        let entry = &self.checker.entries[index];
        for used in entry.table.uses.iter().filter(|used| !used.get_ref().cycle) {
            let provider = self.providers[used.get_ref().endpoint.as_str()];
            if let Some(start) = self.chain.iter().position(|&earlier| earlier == provider) {
                let circle = self.chain[start..].iter().chain([&provider]);
                let names: Vec<_> = circle.map(|&index| self.checker.name(index)).collect();
                return Err(entry.mistake(used, Problem::Cycle(names.join(" -> "))));
            }
            self.visit(provider)?;
        }
        self.chain.pop();
        self.done.push(index);
        Ok(())
    }
}
