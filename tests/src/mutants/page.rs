//! The page docs/mutants.md: its table is made from the mutants' files.

use super::{Edit, FOLDER, Mutant};

/// Where the table begins in the page.
#[cfg(test)]
const BEGIN: &str = "<!-- table: made from tests/mutants -->\n";

/// The table, sorted by the mutants' names.
#[must_use]
pub fn table(mutants: &[Mutant]) -> String {
    let mut rows: Vec<String> = mutants.iter().map(row).collect();
    rows.sort();
    format!(
        "| mutant | what is broken | where | what it would let happen | caught by |\n|---|---|---|---|---|\n{}",
        rows.concat()
    )
}

fn row(mutant: &Mutant) -> String {
    let Mutant { name, about, harm, .. } = mutant;
    let mut files: Vec<&str> = mutant.edits.iter().map(|edit: &Edit| edit.file.as_str()).collect();
    files.dedup();
    let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
    let tests: Vec<String> = mutant.caught_by.iter().map(|test| format!("`{test}`")).collect();
    let (files, tests) = (files.join(", "), tests.join(", "));
    format!("| [{name}](../{FOLDER}/{name}.toml) | {about} | {files} | {harm} | {tests} |\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_has_the_mutants_that_there_are() -> anyhow::Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        crate::page::demand(&root.join("docs/mutants.md"), BEGIN, &table(&super::super::all(root)?))
    }
}
