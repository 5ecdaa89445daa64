//! `image miri` with a made-up rustup: what is skipped, what fails, what passes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the command did.
struct Ran {
    code: Option<i32>,
    said: String,
    /// What rustup was asked, a line each.
    asked: String,
}

/// Runs `image miri` where `rustup` is this shell script, or missing.
fn miri(rustup: Option<&str>, arguments: &[&str]) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    if let Some(script) = rustup {
        let file = directory.path().join("rustup");
        let text = format!("#!/bin/sh\necho \"$*\" >> \"${{0%/*}}/asked\"\n{script}\n");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut image = Command::new(env!("CARGO_BIN_EXE_image"));
    image.arg("miri").args(arguments).env("PORTCULLIS_RUSTUP_SECONDS", "1");
    image.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
    let done = image.output().unwrap();
    Ran {
        code: done.status.code(),
        said: String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap(),
        asked: std::fs::read_to_string(directory.path().join("asked")).unwrap_or_default(),
    }
}

/// Nothing is installed, and the network is away.
const OFFLINE: &str = "
case \"$1\" in
component) [ \"$2\" = list ] || { echo 'error: could not download file' >&2; exit 1; } ;;
*) echo 'error: no release found' >&2; exit 1 ;;
esac";

/// All is there; the tests end with `$code`.
fn installed(code: u8) -> String {
    format!(
        "case \"$*\" in
        'component list'*) printf 'cargo\\nmiri-x86_64-unknown-linux-gnu\\nrust-src\\n' ;;
        *'miri test'*) echo 'error: Undefined Behavior: out-of-bounds' >&2; exit {code} ;;
        esac"
    )
}

#[test]
fn without_rustup_it_is_skipped_with_the_reason() {
    let ran = miri(None, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("SKIP: there is no rustup"), "{}", ran.said);
}

#[test]
fn without_a_network_it_is_skipped_with_what_rustup_said() {
    let ran = miri(Some(OFFLINE), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    for part in ["SKIP: ", "could not download file", "no release found"] {
        assert!(ran.said.contains(part), "no {part:?} in {}", ran.said);
    }
    assert!(!ran.asked.contains("miri test"), "{}", ran.asked);
}

#[test]
fn a_rustup_that_hangs_is_killed_and_it_is_skipped() {
    let begin = Instant::now();
    let ran = miri(Some("[ \"$2\" = list ] || sleep 300"), &[]);
    assert!(begin.elapsed() < Duration::from_secs(60), "nobody ended rustup");
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("SKIP: ") && ran.said.contains("took more than 1 s"), "{}", ran.said);
}

#[test]
fn a_library_that_does_not_build_is_skipped() {
    let broken =
        format!("case \"$*\" in *'miri setup') echo 'error: no core' >&2; exit 1 ;; esac\n{}", installed(0));
    let ran = miri(Some(&broken), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("SKIP: ") && ran.said.contains("no core"), "{}", ran.said);
}

#[test]
fn missing_components_are_installed_first() {
    let later = "
    case \"$*\" in
    'component add miri rust-src --toolchain nightly') ;;
    *'miri setup' | *'miri test'*) ;;
    'component list'*) echo cargo ;;
    *) exit 1 ;;
    esac";
    let ran = miri(Some(later), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(!ran.said.contains("SKIP") && ran.asked.contains("miri test"), "{}{}", ran.said, ran.asked);
}

#[test]
fn what_miri_finds_is_a_failure() {
    let ran = miri(Some(&installed(1)), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    assert!(!ran.said.contains("SKIP") && ran.said.contains("Undefined Behavior"), "{}", ran.said);
}

#[test]
fn a_pass_has_run_the_tests_that_were_asked_for() {
    let ran = miri(Some(&installed(0)), &["wire::"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(!ran.said.contains("SKIP"), "{}", ran.said);
    let runs: Vec<_> = ran.asked.lines().filter(|line| line.contains("miri test")).collect();
    assert!(runs.len() >= 2 && runs.iter().all(|run| run.ends_with("-- wire::")), "{}", ran.asked);
}
