//! The main rows in README.md: made from what was last accepted.

use anyhow::{Context, Result};

use super::Accepted;

/// Where the table begins in the page.
pub const BEGIN: &str = "<!-- table: made from tests/bench/accepted.toml -->\n";
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

/// The table.
///
/// # Errors
/// When a row was never accepted.
pub fn table(accepted: &Accepted) -> Result<String> {
    let row = |(name, words): (&str, &str)| -> Result<String> {
        let row = accepted.row(name).with_context(|| format!("{name} was never accepted"))?;
        Ok(format!("| {words} | {} | {} |\n", row.instructions, row.pkrs_writes))
    };
    let rows: Vec<String> = MAIN.into_iter().map(row).collect::<Result<_>>()?;
    Ok(format!("| | instructions | writes of PKRS |\n|---|---|---|\n{}", rows.concat()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_has_what_was_accepted() -> Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let accepted = Accepted::read(&root.join(super::super::ACCEPTED))?;
        crate::page::demand(&root.join("README.md"), BEGIN, &table(&accepted)?)
    }
}
