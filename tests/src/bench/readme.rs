//! The main rows in README.md: made from what was last accepted.

use super::Accepted;

/// Where the table begins and ends in the page.
const BEGIN: &str = "<!-- table: made from tests/bench/accepted.toml -->\n";
const END: &str = "<!-- end of table -->\n";
/// The rows, as a reader calls them.
const MAIN: [(&str, &str); 10] = [
    ("pointer_call", "a call through a function pointer, in one domain"),
    ("call_mediated", "a call to another domain and its reply, eight words"),
    ("message_512", "the same with 512 bytes, encoded, copied and decoded"),
    ("lend_4k", "a page lent for the length of a call, and read there"),
    ("ring_message", "a message through a ring, both ends"),
    ("guard", "a region opened and closed"),
    ("mint", "a capability derived"),
    ("revoke_10", "one revoked, with ten derived from it"),
    ("fault_report", "a protection-key fault, to its report"),
    ("domain_start", "a domain started"),
];

/// The table; `None` if a row was never accepted.
fn table(accepted: &Accepted) -> Option<String> {
    let row = |(name, words): (&str, &str)| {
        let row = accepted.row(name)?;
        Some(format!("| {words} | {} | {} |\n", row.instructions, row.pkrs_writes))
    };
    let rows: Vec<String> = MAIN.into_iter().map(row).collect::<Option<_>>()?;
    Some(format!("| | instructions | writes of PKRS |\n|---|---|---|\n{}", rows.concat()))
}

/// The page with its table replaced; `None` if it has no place for one, or a row was never accepted.
#[must_use]
pub fn renewed(page: &str, accepted: &Accepted) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table(accepted)?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `UPDATE_DOCS` set it writes the page instead.
    #[test]
    fn the_page_has_what_was_accepted() -> anyhow::Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let file = root.join("README.md");
        let page = std::fs::read_to_string(&file)?;
        let accepted = Accepted::read(&root.join(super::super::ACCEPTED))?;
        let renewed = renewed(&page, &accepted).expect("a place for the table, and all rows");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, renewed)?;
            return Ok(());
        }
        assert!(page == renewed, "README.md has drifted: `just docs` renews it");
        Ok(())
    }
}
