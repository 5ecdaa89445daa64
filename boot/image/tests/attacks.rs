//! docs/attacks.md is what the adversary's own tables say. With `UPDATE_DOCS=1` in the environment the page is written anew;
//! without, a page that differs is a failure.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use libpks::abi::inspect::Isolation;
use libpks::proto::adversary::elsewhere::{ATTACKS, OPEN};
use libpks::proto::adversary::{Aim, CRIMES, SORTS, Sentence, Vector};

/// The least that there must be.
const LEAST: usize = 60;

const HEAD: &str = "# Attacks

What a hostile domain tries, and what stops it. Written from the tables in
[libpks/src/proto/adversary](../libpks/src/proto/adversary/mod.rs) by `just docs`; do not edit it here.

`just demo` boots a system with the server `adversary`, whose shell makes all of the first tables and gives the score; in that
system `attack NAME` makes one. The host's tests make them with 1 and with 4 CPUs (`just test adversary`).

A judge, which is another domain, asks the adversary for each, and starts it anew afterwards. An attack is *stopped* when what must
come of it has come (the column *must*), the judge's own memory is as it was, every other domain still runs, and the log
holds neither control characters nor a line of the adversary's that looks like another's. *holds* is the strongest attacker
against whom that is so ([threat-model.md](threat-model.md)): bug, data, control, or binary, who writes the program. Where an
attack has several aims it is made once for each. A jump that comes back reads memory of the judge's: that must fault.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project's root")
}

fn names(vectors: &[Vector]) -> String {
    vectors
        .iter()
        .map(|vector| format!("{} {}", *vector as u32, vector.text()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn must(sentence: Sentence) -> String {
    match sentence {
        Sentence::Ends(kind) => format!("ends: {kind:?}"),
        Sentence::EndsThere(kind) => format!("ends at its aim: {kind:?}"),
        Sentence::EndsSomehow => "ends".into(),
        Sentence::Refused(error) => format!("refused: {error:?}"),
        Sentence::Harmless => "no harm".into(),
        Sentence::Contained => "ends, or no harm".into(),
    }
}

fn times(aim: Aim) -> String {
    match aim {
        Aim::Numbers(numbers) if numbers.len() > 1 => format!(" ({} times)", numbers.len()),
        Aim::Places(_) | Aim::EveryDomain | Aim::EveryText => " (each)".into(),
        _ => String::new(),
    }
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for sort in SORTS.iter().filter(|sort| !sort.crimes.is_empty()) {
        let _ = write!(page, "\n## {}\n\n", sort.title);
        page.push_str("| attack | what it tries | must | what stops it | holds | classes | what is left |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        for crime in sort.crimes {
            let (aim, must, classes) = (times(crime.aim), must(crime.sentence), names(crime.vectors));
            let mut left = crime.left.to_owned();
            if let Some(why) = crime.why_lost(Isolation::Views) {
                let _ = write!(left, "{}without keys: {why}", if left.is_empty() { "" } else { "; " });
            }
            let _ = writeln!(
                page,
                "| `{}` | {}{aim} | {must} | {} | {} | {classes} | {left} |",
                crime.name, crime.about, crime.stopped_by, crime.holds
            );
        }
    }
    page.push_str("\n## Made by tests of their own\n\n");
    page.push_str("These need a debugger, another image, or a CPU that stands still.\n\n");
    page.push_str(
        "| attack | what it tries | what stops it | holds | classes | test |\n|---|---|---|---|---|---|\n",
    );
    for attack in ATTACKS {
        let classes = names(attack.vectors);
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {classes} | `{}` |",
            attack.name, attack.about, attack.stopped_by, attack.holds, attack.test
        );
    }
    page.push_str("\n## What nothing stops\n\n| what | classes | why |\n|---|---|---|\n");
    for open in OPEN {
        let _ = writeln!(page, "| {} | {} | {} |", open.about, names(open.vectors), open.why);
    }
    page
}

#[test]
fn the_page_is_the_adversarys_tables() {
    let (path, page) = (root().join("docs/attacks.md"), page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/attacks.md can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        written == page,
        "docs/attacks.md is stale, `just docs` renews it; first difference: {differs:#?}"
    );
}

#[test]
fn there_are_enough() {
    assert!(CRIMES.len() >= LEAST, "only {} attacks", CRIMES.len());
}

/// A test that a row names has a function or an exercise of that name; `just mutants --check` looks at the whole name.
#[test]
fn the_tests_that_rows_name_are_there() {
    let mut sources = String::new();
    let mut folders = vec![root().join("tests/tests"), root().join("libpks/src/proto")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|end| end == "rs") && !entry.ends_with("elsewhere.rs") {
                sources.push_str(&fs::read_to_string(&entry).expect("a file"));
            }
        }
    }
    for attack in ATTACKS {
        let test = attack.test.rsplit("::").next().expect("a last part");
        let known = sources.contains(&format!("fn {test}(")) || sources.contains(&format!("\"{test}\""));
        assert!(known, "{}: no test {test}", attack.name);
    }
}
