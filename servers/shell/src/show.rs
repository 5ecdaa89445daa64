//! Commands that show something.

use crate::control;
use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use libpks::abi::inspect::{DomainInfo, DomainState, SystemInfo, ThreadState};
use libpks::abi::layout::PAGE;
use libpks::pkey::Pkrs;
use libpks::proto::supervisor::{Condition, ServerInfo};
use libpks::rt::{CapRights, Env, Error, Inspect, Instant, KernelLog};
use shell::report::Report;
use shell::table::Side::{Left, Right};
use shell::table::{Table, or_dash};

/// Reports that `faults` shows.
const FAULTS: u64 = 8;

fn inspect(env: &Env) -> Result<Inspect, Trouble> {
    Ok(env.capability("inspect")?)
}

/// Everything that `get` gives up to the first `None`.
fn all<T>(mut get_fn: impl FnMut(u64) -> Result<Option<T>, Error>) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    while let Some(item) = get_fn(found.len() as u64)? {
        found.push(item);
    }
    Ok(found)
}

pub(crate) fn domains(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let domains = inspect.domains().collect::<Result<Vec<_>, _>>()?;
    // What the kernel tells is shown whether or not the supervisor answers.
    let servers = control::servers(env);
    let known = servers.as_deref().unwrap_or_default();
    let mut table = Table::new([
        ("id", Right),
        ("name", Left),
        ("view", Right),
        ("key", Right),
        ("state", Left),
        ("restarts", Right),
        ("memory/KiB", Right),
        ("threads", Right),
        ("caps", Right),
        ("calls", Right),
        ("cpu/ms", Right),
        ("depleted", Right),
    ]);
    for domain in &domains {
        let memory = format!("{}/{}", domain.used_bytes / 1024, domain.quota_bytes / 1024);
        let cpu_ms = domain.cpu.used_ns / 1_000_000;
        table.row([
            &domain.id,
            &domain.name,
            &domain.view,
            &or_dash(domain.key),
            &state(domain.state),
            &or_dash(restarts(domain, known)),
            &memory,
            &domain.threads,
            &domain.capabilities,
            &domain.calls,
            &cpu_ms,
            &domain.cpu.depletions,
        ]);
    }
    for server in known.iter().filter(|server| domains.iter().all(|domain| domain.name != server.name)) {
        let condition = condition(server.condition);
        table.row([
            &"-",
            &server.name,
            &"-",
            &"-",
            &condition,
            &server.restarts,
            &"-",
            &"-",
            &"-",
            &"-",
            &"-",
            &"-",
        ]);
    }
    let _ = write!(screen, "{table}");
    let _ = writeln!(screen, "isolation: {}", inspect.system()?.isolation);
    servers.map(drop)
}

/// The supervisor's count belongs to the domain of that name that runs.
fn restarts(domain: &DomainInfo, servers: &[ServerInfo]) -> Option<u32> {
    let server = servers.iter().find(|server| server.name == domain.name)?;
    let is_its = domain.state == DomainState::Running || server.condition != Condition::Running;
    is_its.then_some(server.restarts)
}

fn state(state: DomainState) -> &'static str {
    match state {
        DomainState::Created => "created",
        DomainState::Running => "running",
        DomainState::Faulted => "faulted",
        DomainState::Stopped => "stopped",
        DomainState::Exited => "exited",
    }
}

fn condition(condition: Condition) -> String {
    match condition {
        Condition::Running => "running".into(),
        Condition::Waiting => "waiting".into(),
        Condition::Stopped => "stopped".into(),
        Condition::Refused(error) => format!("refused: {error}"),
    }
}

pub(crate) fn keys(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let SystemInfo { isolation, views, .. } = inspect.system()?;
    let mut table = Table::new([("view", Right), ("key", Right), ("purpose", Left), ("pages", Right)]);
    let mut free = 0;
    for view in 0..views {
        for key in all(|n| inspect.key(view, n))? {
            free += u32::from(key.purpose == "free");
            table.row([&view, &key.key, &key.purpose, &key.pages]);
        }
    }
    let _ = write!(screen, "{table}");
    let _ = writeln!(screen, "{free} free; isolation: {isolation}");
    Ok(())
}

pub(crate) fn capabilities(env: &Env, screen: &mut Screen, name: &str) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let domains = inspect.domains().collect::<Result<Vec<_>, _>>()?;
    let named = || domains.iter().filter(|domain| domain.name == name);
    let domain = named().find(|domain| domain.state == DomainState::Running).or_else(|| named().next_back());
    let domain = domain.ok_or_else(|| Trouble::UnknownDomain(name.into()))?;
    let mut table = Table::new([
        ("handle", Right),
        ("kind", Left),
        ("object", Right),
        ("rights", Left),
        ("badge", Right),
        ("derived", Right),
    ]);
    for cap in all(|n| inspect.capability(domain.id, n))? {
        let handle = format!("{:#x}", cap.handle);
        let badge = format!("{:#x}", cap.badge);
        table.row([&handle, &cap.kind, &cap.object, &rights(cap.rights), &badge, &cap.derived]);
    }
    let _ = write!(screen, "{table}");
    Ok(())
}

fn rights(bits: u16) -> String {
    let names: Vec<_> =
        CapRights::from_bits_truncate(bits).iter_names().map(|(name, _)| name.to_lowercase()).collect();
    names.join(",")
}

pub(crate) fn threads(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let mut table = Table::new([
        ("id", Right),
        ("home", Left),
        ("in", Left),
        ("state", Left),
        ("priority", Right),
        ("cpu", Right),
        ("depth", Right),
        ("PKRS", Left),
    ]);
    for thread in inspect.threads() {
        let thread = thread?;
        let pkrs = format!("{:#010x} ({})", thread.pkrs, Pkrs::from_raw(thread.pkrs));
        let state = activity(thread.state);
        let (cpu, depth) = (thread.cpu, thread.depth);
        table.row([&thread.id, &thread.home, &thread.domain, &state, &thread.priority, &cpu, &depth, &pkrs]);
    }
    let _ = write!(screen, "{table}");
    Ok(())
}

fn activity(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Running => "running",
        ThreadState::Ready => "ready",
        ThreadState::Waiting => "waiting",
        ThreadState::Calling => "calling",
        ThreadState::Faulted => "faulted",
        ThreadState::Joining => "joining",
        ThreadState::Ended => "ended",
    }
}

pub(crate) fn memory(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let SystemInfo { frames_total, frames_free, paging_levels, .. } = inspect.system()?;
    let kib = |frames: u64| frames * (PAGE / 1024);
    let used = frames_total.saturating_sub(frames_free);
    let _ = writeln!(
        screen,
        "{} KiB managed, {} KiB used, {} KiB free; {paging_levels} paging levels",
        kib(frames_total),
        kib(used),
        kib(frames_free)
    );
    let mut table = Table::new([("domain", Left), ("used/KiB", Right), ("quota/KiB", Right), ("base", Left)]);
    for domain in inspect.domains() {
        let domain = domain?;
        let base = format!("{:#x}", domain.base);
        table.row([&domain.name, &(domain.used_bytes / 1024), &(domain.quota_bytes / 1024), &base]);
    }
    let _ = write!(screen, "{table}");
    Ok(())
}

pub(crate) fn cpus(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    let mut table = Table::new([
        ("cpu", Right),
        ("apic", Right),
        ("switches", Right),
        ("PKRS writes", Right),
        ("roots loaded", Right),
        ("made", Right),
        ("kept", Right),
        ("frames for them", Right),
        ("entries", Right),
        ("running", Left),
    ]);
    for cpu in all(|n| inspect.cpu(n))? {
        table.row([
            &cpu.id,
            &cpu.apic_id,
            &cpu.switches,
            &cpu.pkrs_writes,
            &cpu.roots_loaded,
            &cpu.roots_made,
            &cpu.roots_kept,
            &cpu.root_frames,
            &cpu.entries,
            &cpu.running,
        ]);
    }
    let _ = write!(screen, "{table}");
    Ok(())
}

pub(crate) fn log(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let log: KernelLog = env.capability("log")?;
    // What is logged from now on is shown anyway.
    let end = log.read(u64::MAX)?.next;
    let mut position = 0;
    while position < end {
        let piece = log.read(position)?;
        if piece.bytes.is_empty() {
            break;
        }
        let _ = screen.write_str(&String::from_utf8_lossy(&piece.bytes));
        position = piece.next;
    }
    Ok(())
}

pub(crate) fn faults(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect = inspect(env)?;
    for n in 0..FAULTS {
        match inspect.fault(n)? {
            Some(report) => {
                let _ = write!(screen, "{}", Report(&report));
            }
            None if n == 0 => {
                let _ = writeln!(screen, "no faults");
                break;
            }
            None => break,
        }
    }
    Ok(())
}

pub(crate) fn fault_of(env: &Env, screen: &mut Screen, server: &str) -> Result<(), Trouble> {
    let _ = match control::last_fault(env, server)? {
        Some(report) => write!(screen, "{}", Report(&report)),
        None => writeln!(screen, "{server} has not faulted"),
    };
    Ok(())
}

pub(crate) fn uptime(screen: &mut Screen) -> Result<(), Trouble> {
    let millis = Instant::now().as_nanos() / 1_000_000;
    let _ = writeln!(screen, "up {}.{:03} s", millis / 1000, millis % 1000);
    Ok(())
}
