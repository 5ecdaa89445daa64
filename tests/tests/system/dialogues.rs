//! Dialogues on the first serial port, as a person has them.
//!
//! The shell draws its prompt anew at many keys and after each line of the kernel's log, so the end of an answer is
//! marked by one more command, which says something that has not been said before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use image::qemu::{Loader, Machine};
use libpks::proto::adversary::CRIMES;
use tests::failure::{Failure, check};
use tests::plan::{End, Ending, Exercise, Plan, Running};

use crate::lab::Lab;

/// What the shell says when it is ready.
pub(crate) const PROMPT: &str = "pks> ";
const SOON: Duration = Duration::from_secs(90);
/// What it may take until the shell is there.
const READY: Duration = Duration::from_secs(90);
/// What the show may take.
const SHOW: Duration = Duration::from_secs(240);

/// One boot for the dialogues that leave the system running, one for each way to end it.
pub(crate) fn plans(lab: &Arc<Lab>) -> Vec<Plan> {
    let machine = Machine::new(Loader::Direct).cpus(2);
    let mut talk = Plan::new("console", lab.boots(machine), Ending::Closing, talk());
    talk.weight = 2;
    vec![
        talk,
        ending("console_poweroff", lab, "poweroff", End::PowerOff),
        ending("console_reboot", lab, "reboot", End::Reset),
        command_line(lab),
        protection_asked_for(lab),
        without_keys(lab),
        demo(lab),
    ]
}

fn talk() -> Vec<Exercise> {
    vec![
        Exercise::new("prompt_appears", |running| running.console.saw(PROMPT, READY)),
        exchange(
            "help_lists_the_commands",
            "help",
            &["domains", "keys", "faults", "pks all", "attack NAME", "poweroff", "reboot"],
        ),
        exchange(
            "domains_lists_the_servers",
            "domains",
            &["init", "console", "shell", "pks_test", "running"],
        ),
        exchange("domains_tells_the_isolation", "domains", &["isolation: PKS"]),
        exchange("keys_tells_the_purposes", "keys", &["purpose", "free"]),
        exchange("threads_shows_words", "threads", &["PKRS", "0x5555", "rest:none"]),
        exchange("caps_shows_a_server", "caps console", &["IoPorts", "IrqLine"]),
        exchange("mem_log_faults_and_uptime_answer", "mem; log; faults; uptime", &["\nup "]),
        exchange(
            "pks_list_names_the_scenarios",
            "pks list",
            &["S1_defaults", "S10_harness", "K7_no_access_read"],
        ),
        exchange("pks_run_says_pass", "pks run S2_single", &["PASS  S2_single"]),
        exchange("pks_run_of_nothing_is_refused", "pks run S99", &["no such scenario"]),
        exchange(
            "attack_shows_what_stops_it",
            "attack read_foreign_memory",
            &["what stops it: the key", "stopped protection key"],
        ),
        exchange("attack_list_names_the_attacks", "attack list", &["wrmsr_open_word", "trap_slots"]),
        exchange("attack_of_nothing_is_refused", "attack nobody", &["no attack is called `nobody`"]),
        exchange("restart_of_a_server_is_done", "restart pks_test", &["pks_test restarted"]),
        exchange("restart_of_nothing_is_refused", "restart nobody", &["no such server"]),
        exchange("unknown_command_is_refused", "frobnicate now", &["unknown command `frobnicate`", "`help`"]),
        exchange("backspace_edits_the_line", "hellp\x7f\x7fp", &["this list"]),
        exchange("arrow_keys_edit_the_line", "elp\x1b[D\x1b[D\x1b[Dh", &["this list"]),
        Exercise::new("arrow_up_recalls_the_last_line", |running| {
            running.console.saw(PROMPT, READY)?;
            say(running, "uptime")?;
            say(running, "\x1b[A")?;
            let said = until_mark(running)?;
            check(said.matches("\nup ").count() == 2, || format!("not twice in {said}"))
        }),
        noise("overlong_line_does_no_harm", "x".repeat(5000)),
        noise("control_characters_do_no_harm", ('\u{0}'..'\u{20}').collect()),
        noise("broken_escapes_do_no_harm", "\u{1b}[\u{1b}[999999999999;;;~\u{1b}O\u{1b}[1;5".into()),
        noise("other_scripts_do_no_harm", "żółć 盾 \u{202e}🛡\u{fffd}".into()),
    ]
}

fn ending(name: &str, lab: &Arc<Lab>, command: &'static str, end: End) -> Plan {
    let exercise = Exercise::new("ends_the_machine", move |running: &mut Running| {
        running.console.expect(PROMPT, READY)?;
        say(running, command)
    });
    Plan::new(name, lab.boots(Machine::new(Loader::Direct)), Ending::Exit(end), vec![exercise])
}

/// The shell does what the kernel command line says, and its text is data for everybody else.
fn command_line(lab: &Arc<Lab>) -> Plan {
    let machine = Machine::new(Loader::Direct).cmdline("cmd=domains; frobnicate $(reboot) `x`; poweroff");
    let exercise = Exercise::new("runs_and_ends", |running: &mut Running| {
        let said = running.console.expect("unknown command `frobnicate`", READY)?;
        check(said.contains("pks_test"), || format!("no domains in {said}"))
    });
    Plan::new("console_cmdline", lab.boots(machine), Ending::Exit(End::PowerOff), vec![exercise])
}

/// A CPU with both kinds of keys, and a command line that asks for those of user pages. What the shell is told is not for
/// the kernel.
fn protection_asked_for(lab: &Arc<Lab>) -> Plan {
    let cmdline = "protection=pku cmd=echo protection=all; domains; pks run S2_single; poweroff";
    let machine = Machine::new(Loader::Direct).cmdline(cmdline);
    let exercise = Exercise::new("is_given", |running: &mut Running| {
        running.console.expect("isolation: PKU", READY)?;
        running.console.expect("PASS  S2_single", READY).map(drop)
    });
    Plan::new("console_protection", lab.boots(machine), Ending::Exit(End::PowerOff), vec![exercise])
}

/// The show of `just demo`: each attack has its line, none goes through, and everybody lives.
fn demo(lab: &Arc<Lab>) -> Plan {
    let machine = Machine::new(Loader::Direct).cmdline("cmd=attack all; poweroff");
    let exercise = Exercise::new("the_score_is_full", |running: &mut Running| {
        let score = format!("{0} attacks, {0} stopped, 0 went through", CRIMES.len());
        let said = running.console.expect(" went through (", SHOW)?;
        check(said.contains(&score), || format!("no {score:?} at the end of {said}"))?;
        let unnamed = CRIMES.iter().find(|crime| !said.contains(&format!("stopped  {}", crime.name)));
        check(unnamed.is_none(), || format!("no line for {unnamed:?}"))?;
        let alive = running.console.expect("\n", SOON)? + &running.console.expect("\n", SOON)?;
        let missing = ["init", "console", "shell", "pks_test"].into_iter().find(|name| !alive.contains(name));
        check(missing.is_none(), || format!("{missing:?} is not alive: {alive}"))
    });
    let boot_fn = lab.boots_manifest("boot/demo.toml", machine);
    let plan = Plan::new("demo", boot_fn, Ending::Exit(End::PowerOff), vec![exercise]);
    // There is no test link in it.
    Plan { ready_limit: None, ..plan }
}

/// Without protection keys the boot log, the greeting and `domains` say so, and what is closed is closed.
fn without_keys(lab: &Arc<Lab>) -> Plan {
    let exercises = vec![
        Exercise::new("boot_log_tells_the_isolation", |running| {
            running.console.saw("no keys in use: page tables for each rights word", READY)
        }),
        Exercise::new("greeting_tells_the_isolation", |running| {
            running.console.saw("isolation: VIEWS", READY)
        }),
        exchange("domains_tells_the_isolation", "domains", &["\nisolation: VIEWS", "pks_test"]),
        exchange("scenarios_run_without_keys", "pks run S2_single", &["PASS  S2_single"]),
    ];
    Plan::new(
        "console_no_keys",
        lab.boots(Machine::new(Loader::Direct).cpu("qemu64")),
        Ending::Closing,
        exercises,
    )
}

/// Types a line.
pub(crate) fn say(running: &mut Running, line: &str) -> Result<(), Failure> {
    running.console.send(line)?;
    running.console.send("\r")
}

/// Everything that is said until all commands before have been carried out.
fn until_mark(running: &mut Running) -> Result<String, Failure> {
    until_mark_within(running, 6 * SOON)
}

fn until_mark_within(running: &mut Running, limit: Duration) -> Result<String, Failure> {
    static MARKS: AtomicU32 = AtomicU32::new(0);
    let mark = format!("end-of-answer-{}", MARKS.fetch_add(1, Ordering::Relaxed));
    say(running, &format!("echo {mark}"))?;
    // At the start of a line: behind `echo` it is only what was typed.
    running.console.expect(&format!("\n{mark}\n"), limit)
}

/// Types a line, and gives what is said until it has been carried out.
pub(crate) fn ask(running: &mut Running, line: &str) -> Result<String, Failure> {
    say(running, line)?;
    until_mark(running)
}

/// Types a line; all of `words` must come in the answer.
fn exchange(name: &str, line: &'static str, words: &'static [&'static str]) -> Exercise {
    assert!(words.iter().all(|word| !line.contains(word)), "the echo of {line:?} would do");
    Exercise::new(name, move |running| {
        running.console.saw(PROMPT, READY)?;
        let answer = ask(running, line)?;
        let missing = words.iter().find(|word| !answer.contains(**word));
        check(missing.is_none(), || format!("no {missing:?} in the answer to {line:?}: {answer}"))
    })
}

/// Types noise and gives the line up; the next command is carried out. What is typed too fast may get lost, so the
/// line is given up until the shell answers again.
fn noise(name: &str, noise: String) -> Exercise {
    Exercise::new(name, move |running: &mut Running| {
        running.console.saw(PROMPT, READY)?;
        running.console.send(&noise)?;
        let begun = Instant::now();
        loop {
            running.console.send("\r\x03")?;
            match until_mark_within(running, Duration::from_secs(2)) {
                Err(Failure::TimedOut { .. }) if begun.elapsed() < READY => {}
                other => break other.map(drop)?,
            }
        }
        let answer = ask(running, "help")?;
        check(answer.contains("this list"), || format!("no help in {answer}"))
    })
}
