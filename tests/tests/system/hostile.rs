//! Boots that get something bad: each must say what is wrong, and nothing else may stop.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine};
use libpks::abi::name;
use libpks::elf::{Image, NOTE_NAME, Protection};
use libpks::proto::adversary::{CRIMES, Crime};
use libpks::proto::testlink::{Action, Reply, Request};
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::plan::{BootFn, End, Ending, Exercise, Plan, Running};

use crate::dialogues::{PROMPT, ask, say};
use crate::lab::Lab;
use crate::scenarios::{self, EXCHANGE, live_domains};

/// What it may take until the console says what is wrong.
const SOON: Duration = Duration::from_secs(90);
/// What a crime may take, the adversary's restart included.
const CRIME: Duration = Duration::from_secs(120);

/// The server whose module is spoilt. The rest must go on without it.
const VICTIM: &str = "pks_test";

/// What the kernel says when no domain is left.
const DESERTED: &str = "nobody is left to start another";

/// All hostile boots.
pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let mut plans = vec![
        module(lab, "missing_module", "no capability `module:pks_test`", |_| None),
        module(lab, "empty_module", "not an ELF file", |_| Some(Vec::new())),
        module(lab, "truncated_module", "is not in the file", |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            Some(bytes)
        }),
        module(lab, "module_without_magic", "not an ELF file", |mut bytes| {
            bytes[0] ^= 0xff;
            Some(bytes)
        }),
        module(lab, "module_of_zeros", "not an ELF file", |bytes| Some(vec![0; bytes.len()])),
        module(lab, "module_with_wrong_entry", "entry point is not in executable code", |mut bytes| {
            // e_entry of the ELF header (System V ABI, figure 4-3).
            bytes[24..32].copy_from_slice(&0xffff_ffff_8000_0000_u64.to_le_bytes());
            Some(bytes)
        }),
        module(lab, "module_to_write_and_execute", "is writable and executable", |mut bytes| {
            // p_flags of the second program header: PF_R, PF_W, PF_X. The headers follow the ELF header of 64 bytes.
            bytes[64 + 56 + 4] = 7;
            Some(bytes)
        }),
        module(lab, "module_for_another_abi", "built for ABI 77", |mut bytes| {
            // The note's owner fills 12 bytes with the zeros behind it, then comes the version.
            let note = bytes.windows(NOTE_NAME.len()).position(|window| window == NOTE_NAME)?;
            bytes[note + NOTE_NAME.len().next_multiple_of(4)] = 77;
            Some(bytes)
        }),
    ];
    plans.extend([
        module(lab, "module_with_another_byte", "its digest is another", |mut bytes| {
            // In the last section header, which nobody reads.
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            Some(bytes)
        }),
        text(lab, "text_with_wrmsr", "its text holds WRMSR at offset", |text| {
            text[100..102].copy_from_slice(&[0x0f, 0x30]);
        }),
        text(lab, "text_with_lgdt", "its text holds LGDT, LIDT or LMSW", |text| {
            // The immediate of MOV RAX, imm64.
            text[100..105].copy_from_slice(&[0x48, 0xb8, 0x0f, 0x01, 0x10]);
        }),
        text(lab, "text_with_mov_to_cr8", "its text holds MOV to a control register", |text| {
            text[100..104].copy_from_slice(&[0x44, 0x0f, 0x22, 0xc0]);
        }),
        text(lab, "text_with_swapgs", "its text holds SWAPGS", |text| {
            text[100..103].copy_from_slice(&[0x0f, 0x01, 0xf8]);
        }),
        text(lab, "text_with_wrpkru", "its text holds WRPKRU", |text| {
            text[100..103].copy_from_slice(&[0x0f, 0x01, 0xef]);
        }),
        text(lab, "text_with_xsetbv", "its text holds XSETBV", |text| {
            text[100..103].copy_from_slice(&[0x0f, 0x01, 0xd1]);
        }),
        text(lab, "text_with_an_escape_across_pages", "its text holds MOV to a control register", |text| {
            text[4095..4098].copy_from_slice(&[0x0f, 0x22, 0xd8]);
        }),
        text(lab, "text_with_an_escape_at_its_end", "its text holds LGDT, LIDT or LMSW", |text| {
            let end = text.len() - 3;
            text[end..].copy_from_slice(&[0x0f, 0x01, 0x18]);
        }),
    ]);
    let cut_manifest = lab.boots_with(machine(), "manifest", |mut bytes| {
        bytes.truncate(bytes.len() - 1);
        Some(bytes)
    });
    plans.extend([
        unbootable(
            "too_little_memory",
            lab.boots(machine().memory_mib(8)),
            &["init does not start: memory quota exceeded"],
        ),
        unbootable("corrupt_manifest", cut_manifest, &["manifest is malformed", DESERTED]),
        unbootable(
            "missing_manifest",
            lab.boots_with(machine(), "manifest", |_| None),
            &["no capability `module:manifest`", DESERTED],
        ),
        unbootable(
            "missing_init",
            lab.boots_with(machine(), "init", |_| None),
            &["init does not start: not found"],
        ),
        unbootable(
            "protection_that_is_not_there",
            lab.boots(machine().cpu(Cpu::Pku.model()).cmdline("protection=pks")),
            &["this CPU has not the keys that protection= asks for"],
        ),
        unbootable(
            "unknown_protection",
            lab.boots(machine().cmdline("protection=all cmd=poweroff")),
            &["protection= takes pks, pku or views"],
        ),
        unbootable(
            "unknown_views",
            lab.boots(machine().cmdline("views=none cmd=poweroff")),
            &["views= takes together, apart, or a number from 1 to 11"],
        ),
        little_memory(lab),
        no_acpi(lab),
        old_acpi(lab),
    ]);
    for &cpus in if full { &[1, 4][..] } else { &[1] } {
        let kinds = Cpu::KINDS.map(|kind| adversary(lab, machine().cpus(cpus).cpu(kind.model()), kind, ""));
        plans.extend(kinds);
        plans.push(adversary(lab, machine().cpus(cpus).cmdline("views=apart"), Cpu::Pks, "_apart"));
    }
    plans
}

fn machine() -> Machine {
    Machine::new(Loader::Direct)
}

/// The victim's module is changed: it does not run, the console says why, and the others do their work.
fn module(
    lab: &Arc<Lab>,
    case: &str,
    reason: &'static str,
    change_fn: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Plan {
    refused(case, reason, lab.boots_with(machine(), VICTIM, change_fn))
}

/// The victim's text is changed, as if the image builder had passed it.
fn text(lab: &Arc<Lab>, case: &str, reason: &'static str, change_fn: fn(&mut [u8])) -> Plan {
    let change_fn = move |mut bytes: Vec<u8>| {
        let range = text_of(&bytes)?;
        change_fn(&mut bytes[range]);
        Some(bytes)
    };
    refused(case, reason, lab.boots_with_resealed(machine(), VICTIM, change_fn))
}

/// Where an image's text is in its file.
fn text_of(file: &[u8]) -> Option<Range<usize>> {
    let image = Image::parse(file).ok()?;
    let text = image.segments().iter().find(|segment| segment.protection == Protection::ReadExecute)?;
    let start = text.data.as_ptr().addr() - file.as_ptr().addr();
    Some(start..start + text.data.len())
}

fn refused(case: &str, reason: &'static str, boot_fn: BootFn) -> Plan {
    let exercises = vec![
        Exercise::new("is_refused_with_a_reason", move |running: &mut Running| {
            let live = live_domains(running)?;
            check(live.iter().all(|domain| domain.name != VICTIM), || format!("it runs: {live:?}"))?;
            let said = running.console.expect(&format!("`{VICTIM}` does not start: "), SOON)?;
            let said = said + &running.console.expect("\n", SOON)?;
            check(said.contains(reason), || format!("no {reason:?} in {said:?}"))
        }),
        Exercise::new("the_others_run", |running: &mut Running| {
            let live = live_domains(running)?;
            for other in ["init", "console", "shell", "testlink"] {
                check(live.iter().any(|domain| domain.name == other), || {
                    format!("{other} does not run: {live:?}")
                })?;
            }
            let restart = Request::Server { name: name("shell"), action: Action::Restart };
            let reply = running.link.ask(&restart, EXCHANGE)?;
            check(reply == Reply::Done, || format!("restarting the shell gave {reply:?}"))
        }),
    ];
    Plan::new(format!("hostile_{case}"), boot_fn, Ending::Closing, exercises)
}

/// Nothing can run: the console must say why, and the machine must not pretend otherwise.
fn unbootable(name: &str, boot_fn: BootFn, words: &'static [&'static str]) -> Plan {
    let exercise = Exercise::new("says_why", move |running: &mut Running| {
        words.iter().try_for_each(|word| running.console.expect(word, SOON).map(drop))
    });
    let mut plan = Plan::new(format!("hostile_{name}"), boot_fn, Ending::Exit(End::Panic), vec![exercise]);
    plan.ready_limit = None;
    plan
}

/// Memory for some servers: the others are refused with the reason, and the shell works.
fn little_memory(lab: &Arc<Lab>) -> Plan {
    let exercise = Exercise::new("starts_what_fits", |running: &mut Running| {
        let refused = format!("`{VICTIM}` does not start: no domain: memory quota exceeded");
        running.console.expect(&refused, SOON)?;
        running.console.expect(PROMPT, SOON)?;
        let said = ask(running, "domains")?;
        let row = |name: &str| said.lines().find(|line| line.contains(&format!(" {name} "))).unwrap_or("");
        check(row("shell").contains("running") && row(VICTIM).contains("refused"), || said.clone())?;
        let said = ask(running, "pks run S2_single")?;
        check(said.contains("timed out"), || format!("no error in {said:?}"))?;
        say(running, "poweroff")
    });
    let boot_fn = lab.boots(machine().memory_mib(24));
    let mut plan = Plan::new("hostile_little_memory", boot_fn, Ending::Exit(End::PowerOff), vec![exercise]);
    plan.ready_limit = None;
    plan
}

/// Firmware without any ACPI table (qboot brings none of its own): a warning, and all but the power switch works.
fn no_acpi(lab: &Arc<Lab>) -> Plan {
    let warns = Exercise::new("is_told_and_assumed", |running: &mut Running| {
        running.console.saw("no tables: the usual PC is assumed, and it cannot be turned off", SOON)
    });
    let stays = Exercise::new("poweroff_is_refused", |running: &mut Running| {
        running.console.saw(PROMPT, SOON)?;
        let said = ask(running, "poweroff")?;
        check(said.contains("poweroff: unsupported"), || format!("no error in {said:?}"))
    });
    without_acpi(lab, "no_acpi", &["-bios", "qboot.rom"], vec![warns, stays])
}

/// QEMU gives no tables, and its BIOS makes up some of ACPI 1.0, whose FADT is shorter than today's.
fn old_acpi(lab: &Arc<Lab>) -> Plan {
    let boots = Exercise::new("prompt_appears", |running: &mut Running| running.console.saw(PROMPT, SOON));
    without_acpi(lab, "old_acpi", &[], vec![boots])
}

fn without_acpi(lab: &Arc<Lab>, case: &str, more: &[&str], mut exercises: Vec<Exercise>) -> Plan {
    let machine = machine().extra(["-machine", "acpi=off"]).extra(more.iter().copied());
    // Preemption and a server's restart need the timer and the interrupt lines.
    exercises.extend(scenarios::some(&["S2_single", "S4_context_switch", "S9_crash", "P19_audit"]));
    Plan::new(format!("hostile_{case}"), lab.boots(machine), Ending::Closing, exercises)
}

/// Every crime that is to be stopped on this kind of CPU; afterwards everyone else still runs.
fn adversary(lab: &Arc<Lab>, machine: Machine, cpu: Cpu, views: &str) -> Plan {
    let cpus = machine.cpus;
    let crimes = CRIMES.iter().filter(|crime| crime.why_lost(cpu.isolation()).is_none());
    let exercises = crimes.map(|crime| Exercise::new(crime.name, move |running| commit(running, crime)));
    let boot_fn = lab.boots(machine);
    let mut plan = Plan::new(
        format!("adversary_cpus{cpus}{}{views}", cpu.suffix()),
        boot_fn,
        Ending::Closing,
        exercises.collect(),
    );
    plan.weight = cpus as usize;
    plan
}

/// Has a crime committed; its consequence must be the one it deserves.
pub(crate) fn commit(running: &mut Running, crime: &Crime) -> Result<(), Failure> {
    let before = live_domains(running)?;
    let consequence = match running.link.ask(&Request::Crime { name: name(crime.name) }, CRIME)? {
        Reply::Crime(consequence) => consequence,
        other => return Err(Failure::Wrong(format!("not a consequence: {other:?}"))),
    };
    check(crime.is_punished_by(&consequence, &before), || {
        format!("{:?} expected, got {consequence:?}", crime.sentence)
    })?;
    let after = live_domains(running)?;
    check(after.len() == before.len(), || format!("{} domains ran before, now {after:?}", before.len()))
}
