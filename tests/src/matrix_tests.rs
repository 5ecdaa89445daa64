//! A matrix must tell what is missing and what failed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::failure::Failure;
use crate::session::Failed;

fn configuration(name: &str) -> Configuration {
    Configuration {
        name: name.into(),
        loader: "direct".into(),
        levels: 4,
        cpus: 1,
        memory_mib: 4096,
        isolation: Isolation::Pks,
        cpu: "max".into(),
        apart: false,
    }
}

fn failed() -> crate::session::Result {
    Err(Failed { failure: Failure::Lost("on purpose".into()), log: String::new() })
}

fn session(results: &[(&str, crate::session::Result)], boots: usize) -> Session {
    let results: BTreeMap<_, _> =
        results.iter().map(|(name, result)| ((*name).to_owned(), result.clone())).collect();
    Session { results, boots, elapsed: Duration::from_millis(1500) }
}

/// A matrix of one row, of which the scenario `s` and the other test `o` were wanted.
fn matrix(results: &[(&str, crate::session::Result)], boots: usize) -> Matrix {
    let mut tally = Tally::default();
    let wanted = ["s".to_owned(), "o".to_owned()];
    tally.add_session(&session(results, boots), &wanted, |name| name == "s");
    let rows = vec![Row { configuration: configuration("row"), outcome: Outcome::Ran { tally } }];
    Matrix { rows, other_boots: 0, other_tests: Tally::default(), left_out: 2 }
}

const DONE: crate::session::Result = Ok(());

#[test]
fn a_good_row_is_counted_and_passes() {
    let matrix = matrix(&[("s", DONE), ("o", DONE)], 1);
    assert_eq!(matrix.verdict(), Ok(()));
    let (ran, sum) = matrix.totals();
    assert_eq!((ran, sum.scenarios.passed, sum.others.passed, sum.boots), (1, 1, 1, 1));
    let text = matrix.to_string();
    let row =
        "direct               4     1      4G  PKS              1      0       1      0      1      1.5\n";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("1 of 3 configurations") && text.contains("2 more configurations"), "{text}");
}

#[test]
fn every_kind_of_trouble_is_told() {
    let told = |matrix: &Matrix| matrix.verdict().expect_err("is wrong");
    assert_eq!(told(&matrix(&[("s", failed()), ("o", DONE)], 2)), "row: 1 failed");
    assert_eq!(told(&matrix(&[("s", DONE)], 1)), "row: no result of o");
    assert_eq!(told(&matrix(&[("s", DONE), ("o", DONE)], 0)), "row: it was never booted");
    let mut others = matrix(&[("s", DONE), ("o", DONE)], 1);
    others.other_tests.add_session(&session(&[("x", failed())], 1), &["x".into()], |_| false);
    assert_eq!(told(&others), "the other boots: 1 failed");
}

#[test]
fn a_matrix_of_nothing_is_no_success() {
    let mut matrix = matrix(&[("s", DONE), ("o", DONE)], 1);
    for outcome in [Outcome::NotChosen, Outcome::Ignored { reason: "no Limine here".into() }] {
        matrix.rows[0].outcome = outcome;
        assert_eq!(matrix.verdict(), Err("no configuration was run".into()));
    }
    assert!(matrix.to_string().contains("not run: no Limine here"));
}

#[test]
fn a_matrix_is_told_to_programs() {
    let matrix = matrix(&[("s", DONE), ("o", DONE)], 1);
    let json = serde_json::to_value(&matrix).expect("is JSON");
    assert_eq!(json["rows"][0]["scenarios"]["passed"], 1);
    assert_eq!(json["rows"][0]["state"], "ran");
    assert_eq!(json["rows"][0]["name"], "row");
}
