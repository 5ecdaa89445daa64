//! The page docs/mutants.md: its table is made from the mutants' files.

use super::{Edit, FOLDER, Mutant};

/// Where the table begins and ends in the page.
const BEGIN: &str = "<!-- table: made from tests/mutants -->\n";
const END: &str = "<!-- end of table -->\n";

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

/// The page with its table replaced; `None` if it has no place for one.
#[must_use]
pub fn renewed(page: &str, mutants: &[Mutant]) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table(mutants)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `UPDATE_DOCS` set it writes the page instead.
    #[test]
    fn the_page_has_the_mutants_that_there_are() -> anyhow::Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let file = root.join("docs/mutants.md");
        let page = std::fs::read_to_string(&file)?;
        let renewed = renewed(&page, &super::super::all(root)?).expect("a place for the table");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, renewed)?;
            return Ok(());
        }
        assert!(page == renewed, "docs/mutants.md has drifted: `just docs` renews it");
        Ok(())
    }
}
