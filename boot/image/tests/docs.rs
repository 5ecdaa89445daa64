//! What the documentation says that a program can check: links lead somewhere, and tables that repeat the code are equal to it.

use std::fs;
use std::path::{Path, PathBuf};

use libpks::abi::{Error, Syscall};
use libpks::proto::adversary::CRIMES;
use libpks::proto::pks_test::SCENARIOS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project's root")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Markdown files of the project's own folders.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 10, "only {pages:?}");
    pages
}

/// The text without code blocks.
fn prose(text: &str) -> String {
    let outside = |(number, part): (usize, &str)| (number % 2 == 0).then(|| part.to_owned());
    text.split("```").enumerate().filter_map(outside).collect()
}

/// The targets of all links and pictures.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// What a heading is called in links: lower case, blanks to hyphens, punctuation gone.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = prose(&read(page));
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

/// Why a link leads nowhere.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (file, part) = target.split_once('#').unwrap_or((target, ""));
    let to = if file.is_empty() { page.to_owned() } else { page.parent().expect("a folder").join(file) };
    if !to.exists() {
        return Some(format!("{}: no {target}", page.display()));
    }
    let lost = !part.is_empty() && !has_anchor(&to, part);
    lost.then(|| format!("{}: {file} has no part `{part}`", page.display()))
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = prose(&read(&page));
        for target in links(&text) {
            seen += 1;
            wrong.extend(broken(&page, target));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 50, "only {seen} links were found");
}

/// The first two cells of each row of the tables in a page, as number and name.
fn numbered_rows(text: &str) -> Vec<(u64, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((number, name.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn operations_and_errors_are_those_of_the_abi() {
    let text = read(&root().join("docs/syscalls.md"));
    let (operations, errors) = text.split_once("\n## Errors\n").expect("a part on errors");
    let syscalls = (0..=u64::from(u16::MAX))
        .filter_map(|number| Some((number, format!("{:?}", Syscall::from_number(number)?))));
    assert_eq!(numbered_rows(operations), syscalls.collect::<Vec<_>>());
    let known = Error::ALL.iter().map(|&error| (error as u64, format!("{error:?}")));
    assert_eq!(numbered_rows(errors), known.collect::<Vec<_>>());
    for error in Error::ALL {
        assert!(errors.contains(&format!("| `{error:?}` | {error} |")), "{error:?} says: {error}");
    }
}

/// Whether a word is built like the name of a scenario: S, K or P, digits, an underscore and more.
fn is_scenario_name(word: &str) -> bool {
    let digits = word.strip_prefix(['S', 'K', 'P']).unwrap_or_default();
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < digits.len() && rest.strip_prefix('_').is_some_and(|name| !name.is_empty())
}

/// A promise with a test that does not exist is worse than one without.
#[test]
fn the_tests_that_pages_name_exist() {
    let mut seen = 0;
    for page in pages() {
        let text = prose(&read(&page));
        for word in text.split('`').skip(1).step_by(2).filter(|word| is_scenario_name(word)) {
            seen += 1;
            let known = SCENARIOS.iter().any(|scenario| scenario.name == word);
            assert!(known, "{}: no scenario is called {word}", page.display());
        }
        for (_, rest) in text.match_indices("crime `").map(|(at, lead)| text.split_at(at + lead.len())) {
            seen += 1;
            let word = rest.split('`').next().unwrap_or_default();
            let known = CRIMES.iter().any(|crime| crime.name == word);
            assert!(known, "{}: no crime is called {word}", page.display());
        }
    }
    assert!(seen > 30, "only {seen} tests are named");
}
