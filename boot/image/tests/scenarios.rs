//! docs/scenarios.md is what the test servers' own tables say. With `UPDATE_DOCS=1` in the environment the page is
//! written anew; without, a page that differs is a failure.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use libpks::proto::{ipc_test, pks_test};

/// What no scenario in the guest can show by itself: name, what it shows, where it is, and how it is run.
const OUTSIDE: &[[&str; 4]] = &[
    [
        "P13, unwinding",
        "nothing unwinds in the guest, where a panic is a fault of the domain; on the host it does",
        "libpks/tests/pure/opening.rs",
        "just test",
    ],
    [
        "P21, mutants",
        "each sabotage of kernel or libpks is found by a named test",
        "docs/mutants.md",
        "just mutants",
    ],
    [
        "P9, every instruction",
        "an NMI at each instruction of every gate and trap stub",
        "tests/tests/injection",
        "just test injection",
    ],
    [
        "crimes",
        "what a hostile server tries against the kernel and its neighbours",
        "docs/attacks.md",
        "just test adversary",
    ],
    [
        "the crashes' judges",
        "a crash that was not the announced one is no pass",
        "libpks/src/proto/pks_test/tests.rs",
        "just test",
    ],
];

const HEAD: &str = "# Scenarios

What the test servers run in the guest, on request of the shell (`pks list`, `pks run NAME`, `pks all`) and of the
host's tests, which run all of them on every machine of their matrix ([testing.md](testing.md)). Written from the
servers' own tables by `just docs`; do not edit it here.

S1 to S10 are the scenarios of the Linux PKS series, K1 to K7 those of kvm-unit-tests, P1 to P23 close the gaps between
them. *keys* says whether a machine without protection keys skips it; *checks* is the least number that a pass must
make. Where a row names a page of this folder as its source, it tests a rule of this system that nobody else has.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project's root")
}

/// A table of scenarios.
fn table(page: &mut String, title: &str, scenarios: &[pks_test::Scenario]) {
    let _ = write!(page, "\n## {title}\n\n| name | what it shows | source of the expectation | checks |\n");
    page.push_str("|---|---|---|---|\n");
    for scenario in scenarios {
        let pks_test::Scenario { name, about, source, least_checks } = scenario;
        let _ = writeln!(page, "| `{name}` | {about} | {source} | {least_checks} |");
    }
}

fn page() -> String {
    let mut page = String::from(HEAD);
    table(&mut page, "pks_test", pks_test::SCENARIOS);
    table(&mut page, "ipc_test", ipc_test::SCENARIOS);
    page.push_str(
        "\n## Outside of the guest\n\n| row | what it shows | where | command |\n|---|---|---|---|\n",
    );
    for [row, about, place, command] in OUTSIDE {
        let _ = writeln!(page, "| {row} | {about} | [{place}](../{place}) | `{command}` |");
    }
    page
}

#[test]
fn the_page_is_the_servers_tables() {
    let (path, page) = (root().join("docs/scenarios.md"), page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/scenarios.md can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        written == page,
        "docs/scenarios.md is stale, `just docs` renews it; first difference: {differs:#?}"
    );
}

#[test]
fn what_a_row_names_exists() {
    for [row, _, place, _] in OUTSIDE {
        assert!(root().join(place).exists(), "{row}: no {place}");
    }
    for scenario in pks_test::SCENARIOS.iter().chain(ipc_test::SCENARIOS) {
        for word in scenario.source.split([' ', ';', ',']).filter(|word| word.starts_with("docs/")) {
            assert!(root().join(word).exists(), "{}: no {word}", scenario.name);
        }
    }
}

/// Every row of the list of what must be there has a scenario, or a row in [`OUTSIDE`].
#[test]
fn every_required_row_is_there() {
    let required = (1..=10).map(|n| format!("S{n}")).chain((1..=7).map(|n| format!("K{n}")));
    for row in required.chain(REQUIRED_P.iter().map(|n| format!("P{n}"))) {
        let in_guest = pks_test::SCENARIOS.iter().any(|it| it.name.split('_').next() == Some(&row));
        assert!(in_guest, "nothing tests {row}");
    }
}

const REQUIRED_P: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22];
