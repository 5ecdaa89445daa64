//! Boots with a kernel that records what its CPUs may translate, whose log a model checks (docs/testing-in-depth.md).

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image::qemu::{Loader, Machine};
use image::workspace::Workspace;
use libpks::abi::name;
use libpks::proto::adversary::CRIMES;
use libpks::proto::pks_test::SERVER;
use libpks::proto::testlink::{Action, Reply, Request};
use libpks::translations::{ANNOUNCEMENT, HEADER_BYTES, Header, RECORD_BYTES};
use tests::failure::{Failure, check};
use tests::plan::{Ending, Exercise, Plan, Running};
use tests::translations::{self, Counts, Model};

use crate::hostile::commit;
use crate::lab::Lab;
use crate::scenarios;

/// The kernel's feature.
const FEATURE: &str = "log-translations";
/// What a restart may take.
const RESTART: Duration = Duration::from_secs(90);
/// What changes mappings most: keys that are freed and handed out, regions that change their key, domains that end, the
/// vault.
const SCENARIOS: &[&str] = &[
    "S3_all_keys",
    "S8_global",
    "S9_crash",
    "K1_no_access_write",
    "K6_user_page_write",
    "P18_rekey",
    "P20_exhaustion",
    "M1_fresh_memory",
    "transfer_lend",
    "lent_region_closed_after_reply",
    "callee_dies_mid_call",
    "middle_dies",
    "caller_dies_in_server",
    "domain_ends_itself",
    "revoke_reaches_running_thread",
    "revoke_reaches_parked_thread",
    "revoke_reaches_call_chain",
    "rekey_under_running_thread",
    "revoke_survives_guard_drop",
    "quota_exhausted_and_returned",
    "thread_create_join_kill",
    "domain_restart_same_endpoint",
    "memory_scrubbed_after_restart",
    "key_reused_after_free_is_clean",
    "keys_exhausted_typed",
    "closed_for_want_of_a_key",
];
/// What is about CPU time, of which a kernel that records has little to give, and changes no mapping that others do not.
const TIMED: &[&str] = &[
    "urgent_waiter_lends_priority",
    "holder_without_budget_is_hurried",
    "spinner_starves_nobody",
    "budget_runs_out_and_comes_back",
    "call_is_charged_to_the_client",
    "long_call_does_not_hang",
    "cpu_quota_exhausted_and_returned",
];
/// Crimes with regions, and with memory of one's own.
const CRIMES_CHOSEN: &[&str] =
    &["read_after_revoke", "read_after_loan", "stack_overflow", "exhaust_heap", "exhaust_threads", "panic"];

/// One boot for each number of CPUs, with domains in one view and each in its own; four in every run, the others in a
/// full one, and there with every scenario and crime.
pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let one_view = [4, 1, 2, 8].map(|cpus| plan(lab, cpus, "", full));
    one_view.into_iter().chain([2, 4].map(|cpus| plan(lab, cpus, "_apart", full))).collect()
}

fn plan(lab: &Arc<Lab>, cpus: u32, suffix: &'static str, full: bool) -> Plan {
    // The log takes 256 MiB of it: all scenarios and crimes on 8 CPUs are six million records.
    let machine = Machine::new(Loader::Direct).cpus(cpus).memory_mib(1024);
    let machine = if suffix.is_empty() { machine } else { machine.cmdline("views=apart") };
    let name = format!("translations_cpus{cpus}{suffix}");
    let log = name.clone();
    let exercise = Exercise::new("every_change_is_invalidated", move |running| {
        work_and_check(running, &log, cpus, full)
    });
    let boot_fn = lab.boots_with_kernel(&[FEATURE], machine);
    let mut plan = Plan::new(name, boot_fn, Ending::Closing, vec![exercise]);
    plan.weight = cpus as usize;
    let always = (cpus == 4) == suffix.is_empty() && cpus != 8 && cpus != 1;
    plan.ignored = (!always && !full).then(|| "a full run, with PORTCULLIS_FULL=1, does it".to_owned());
    plan
}

/// All that changes mappings, and then the log: one exercise, because a log of less would show less.
fn work_and_check(running: &mut Running, log: &str, cpus: u32, full: bool) -> Result<(), Failure> {
    let chosen = |names: &[&str], name: &str| (full && !TIMED.contains(&name)) || names.contains(&name);
    for scenario in scenarios::all().filter(|scenario| chosen(SCENARIOS, &scenario.name)) {
        (scenario.run_fn)(running)?;
    }
    for crime in CRIMES.iter().filter(|crime| chosen(CRIMES_CHOSEN, crime.name)) {
        commit(running, crime)?;
    }
    let request = Request::Server { name: name(SERVER), action: Action::Restart };
    match running.link.ask(&request, RESTART)? {
        Reply::Done => {}
        other => return Err(Failure::Wrong(format!("no restart: {other:?}"))),
    }
    let wrong = |error: anyhow::Error| Failure::Wrong(format!("{error:#}"));
    running.process.monitor("stop").map_err(wrong)?;
    let kept = Workspace::find().map_err(wrong)?.output().join(format!("{log}.log"));
    let model = fetch(running).and_then(|bytes| {
        fs::write(&kept, &bytes)?;
        let model = translations::check(&translations::read(&bytes)?)?;
        tables_are_as_logged(running, &model)?;
        Ok(model)
    });
    let model = model.with_context(|| format!("the log in {}", kept.display()));
    let counts = model.map_err(wrong)?.counts();
    running.process.monitor("cont").map_err(wrong)?;
    println!("{log}: {counts:?}");
    suffices(counts, cpus)
}

/// A log of a kernel that did little would show little.
fn suffices(counts: Counts, cpus: u32) -> Result<(), Failure> {
    let least = Counts {
        entries: 40_000,
        useful_invalidations: 20_000 * u64::from(cpus),
        operations: 2_000,
        exits: 300,
        frames_freed: 5_000,
        keys_freed: 40,
        ..Counts::default()
    };
    let enough = counts.entries >= least.entries
        && counts.useful_invalidations >= least.useful_invalidations
        && counts.operations >= least.operations
        && counts.exits >= least.exits
        && counts.frames_freed >= least.frames_freed
        && counts.keys_freed >= least.keys_freed;
    check(enough, || format!("{counts:?} is less than {least:?}"))
}

/// The log, header and records. The guest stands still.
fn fetch(running: &mut Running) -> Result<Vec<u8>> {
    let said = running.console.text();
    let (_, rest) = said.split_once(ANNOUNCEMENT).context("the kernel does not say where its log is")?;
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let at = u64::from_str_radix(&digits[..end], 16).context("the address of the log")?;
    let header = memory(running, at, HEADER_BYTES)?;
    let word = |n: usize| header[n * 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let written = Header::decode(std::array::from_fn(word))?.written;
    memory(running, at, HEADER_BYTES + written * RECORD_BYTES)
}

/// Nothing has written to a page table but what is in the log, the CPUs themselves included.
fn tables_are_as_logged(running: &mut Running, model: &Model) -> Result<()> {
    for (table, words) in model.tables().in_force() {
        let found = memory(running, table, 4096)?;
        let found = found.chunks_exact(8).filter_map(|bytes| bytes.first_chunk());
        for (n, (found, known)) in found.map(|bytes| u64::from_le_bytes(*bytes)).zip(words).enumerate() {
            ensure!(
                found == *known,
                "entry {n} of the table at {table:#x} is {found:#x}, by the log {known:#x}"
            );
        }
    }
    Ok(())
}

/// Physical memory of the guest.
fn memory(running: &mut Running, at: u64, bytes: u64) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("memory");
    let said = running.process.monitor(&format!("pmemsave {at:#x} {bytes:#x} \"{}\"", file.display()))?;
    let saved = fs::read(&file).with_context(|| format!("pmemsave: {said}"))?;
    ensure!(saved.len() as u64 == bytes, "{} bytes of {bytes} at {at:#x}", saved.len());
    Ok(saved)
}
