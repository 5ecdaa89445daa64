//! Dialogues on the first serial port, as a person has them.

use std::sync::Arc;
use std::time::Duration;

use image::qemu::{Loader, Machine};
use tests::failure::{Failure, check};
use tests::plan::{End, Ending, Exercise, Plan, Running};

use crate::lab::Lab;

const PROMPT: &str = "pks> ";
const SOON: Duration = Duration::from_secs(10);
/// What it may take until the shell is there.
const READY: Duration = Duration::from_secs(30);

/// One boot for the dialogues that leave the system running, one for each way to end it.
pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    let talk = vec![
        Exercise::new("prompt_appears", |running| running.console.expect(PROMPT, READY).map(drop)),
        exchange(
            "help_lists_the_commands",
            "help",
            &["domains", "keys", "faults", "pks", "poweroff", "reboot"],
        ),
        exchange("domains_lists_the_servers", "domains", &["init", "console", "shell", "pks_test"]),
        exchange("domains_tells_the_isolation", "domains", &["isolation", "PKS"]),
        exchange(
            "pks_list_names_the_scenarios",
            "pks list",
            &["S1_defaults", "S10_harness", "K7_no_access_read"],
        ),
        exchange("pks_run_says_pass", "pks run S2_single", &["S2_single", "PASS"]),
        exchange("pks_run_of_nothing_is_refused", "pks run S99", &["no such scenario"]),
        exchange("unknown_command_is_refused", "frobnicate now", &["frobnicate", "help"]),
        exchange("backspace_edits_the_line", "hellp\x7f\x7fp", &["domains"]),
        exchange("arrow_keys_edit_the_line", "elp\x1b[D\x1b[D\x1b[Dh", &["domains"]),
        Exercise::new("arrow_up_recalls_the_last_line", |running| {
            say(running, "uptime")?;
            running.console.expect(PROMPT, SOON)?;
            running.console.send("\x1b[A")?;
            running.console.expect("uptime", SOON)?;
            running.console.send("\r")?;
            running.console.expect(PROMPT, SOON).map(drop)
        }),
        Exercise::new("overlong_line_does_no_harm", |running| {
            say(running, &"x".repeat(5000))?;
            running.console.expect(PROMPT, SOON)?;
            answers(running, "help", &["domains"])
        }),
        Exercise::new("noise_does_no_harm", |running| {
            let noise: String = ('\u{0}'..'\u{100}').filter(|c| !"\r\n\u{3}\u{4}".contains(*c)).collect();
            say(running, &noise)?;
            running.console.expect(PROMPT, SOON)?;
            answers(running, "help", &["domains"])
        }),
    ];
    vec![
        Plan::new("console", lab.boots(Machine::new(Loader::Direct).cpus(2)), Ending::Closing, talk),
        ending("console_poweroff", lab, "poweroff", End::PowerOff),
        ending("console_reboot", lab, "reboot", End::Reset),
        command_line(lab),
        without_keys(lab),
    ]
}

fn ending(name: &str, lab: &Arc<Lab>, command: &'static str, end: End) -> Plan {
    let exercise = Exercise::new("ends_the_machine", move |running: &mut Running| {
        running.console.expect(PROMPT, READY)?;
        say(running, command)
    });
    Plan::new(name, lab.boots(Machine::new(Loader::Direct)), Ending::Exit(end), vec![exercise])
}

/// The shell does what the kernel command line says, and its text is data for nobody else.
fn command_line(lab: &Arc<Lab>) -> Plan {
    let machine = Machine::new(Loader::Direct).cmdline("cmd=domains; frobnicate $(reboot) `x`; poweroff");
    let exercise = Exercise::new("runs_and_ends", |running: &mut Running| {
        let said = running.console.expect("frobnicate", READY)?;
        check(said.contains("pks_test"), || format!("no domains in {said}"))
    });
    Plan::new("console_cmdline", lab.boots(machine), Ending::Exit(End::PowerOff), vec![exercise])
}

/// Without protection keys the boot log, the prompt and `domains` say so.
fn without_keys(lab: &Arc<Lab>) -> Plan {
    let exercises = vec![
        Exercise::new("boot_log_says_that_there_is_no_isolation", |running| {
            running.console.expect("isolation: NONE", READY).map(drop)
        }),
        Exercise::new("domains_says_that_there_is_no_isolation", |running| {
            running.console.expect(PROMPT.trim_end(), READY)?;
            answers_until(running, "domains", &["isolation: NONE", "pks_test"], ">").map(drop)
        }),
    ];
    Plan::new(
        "console_no_pks",
        lab.boots(Machine::new(Loader::Direct).cpu("qemu64")),
        Ending::Closing,
        exercises,
    )
}

/// Types a line.
fn say(running: &mut Running, line: &str) -> Result<(), Failure> {
    running.console.send(line)?;
    running.console.send("\r")
}

/// Types a line; all of `words` must come before the next prompt.
fn exchange(name: &str, line: &'static str, words: &'static [&'static str]) -> Exercise {
    Exercise::new(name, move |running| answers(running, line, words))
}

fn answers(running: &mut Running, line: &str, words: &[&str]) -> Result<(), Failure> {
    answers_until(running, line, words, PROMPT)
}

fn answers_until(running: &mut Running, line: &str, words: &[&str], end: &str) -> Result<(), Failure> {
    say(running, line)?;
    let said = running.console.expect(end, 6 * SOON)?;
    // The echo of the line is no answer.
    let answer = said.split_once('\n').map_or("", |(_, answer)| answer);
    let missing = words.iter().find(|word| !answer.contains(**word));
    check(missing.is_none(), || format!("no {missing:?} in the answer to {line:?}: {answer}"))
}
