//! Pages of which a part is a table that is made from something else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const END: &str = "<!-- end of table -->\n";

/// The page with the table between the line `begin` and the end of the table replaced; `None` if it has no such place.
#[must_use]
pub fn renewed(page: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{table}\n{END}{after}"))
}

/// Writes the table into a page.
///
/// # Errors
/// The page cannot be read or written, or has no place for it.
pub fn renew(file: &Path, begin: &str, table: &str) -> Result<()> {
    Ok(fs::write(file, read_renewed(file, begin, table)?.1)?)
}

/// Demands that a page has this table. With `UPDATE_DOCS` in the environment it is written instead.
///
/// # Errors
/// As [`renew`], and when the page has another one.
pub fn demand(file: &Path, begin: &str, table: &str) -> Result<()> {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return renew(file, begin, table);
    }
    let (page, renewed) = read_renewed(file, begin, table)?;
    ensure!(page == renewed, "{} has drifted: `just docs` renews it", file.display());
    Ok(())
}

fn read_renewed(file: &Path, begin: &str, table: &str) -> Result<(String, String)> {
    let page = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let renewed = renewed(&page, begin, table);
    let renewed = renewed.with_context(|| format!("{} has no place for a table", file.display()))?;
    Ok((page, renewed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let page = format!("a\n<!-- t -->\nold\n{END}b\n");
        let expected = format!("a\n<!-- t -->\n\nnew\n\n{END}b\n");
        assert_eq!(renewed(&page, "<!-- t -->\n", "new\n"), Some(expected));
        assert_eq!(renewed(&page, "<!-- u -->\n", "new\n"), None);
        assert_eq!(renewed("<!-- t -->\n", "<!-- t -->\n", "new\n"), None);
    }

    #[test]
    fn another_table_is_told_of() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), format!("<!-- t -->\nold\n{END}"))?;
        renew(file.path(), "<!-- t -->\n", "new\n")?;
        let (page, same) = read_renewed(file.path(), "<!-- t -->\n", "new\n")?;
        assert_eq!(page, same);
        let (page, other) = read_renewed(file.path(), "<!-- t -->\n", "newer\n")?;
        assert_ne!(page, other);
        Ok(())
    }
}
