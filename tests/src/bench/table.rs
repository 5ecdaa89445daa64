//! The table for a person, and for a program.

use std::fmt::Write;

use anyhow::Result;
use libpks::proto::bench::ROWS;
use serde_json::json;

use super::Counts;

/// The rows as text, each with what is counted.
#[must_use]
pub fn table(rows: &[Counts]) -> String {
    let mut text = format!(
        "{:21} {:>10} {:>10} {:>10} {:>5} {:>4} {:>6} {:>5}\n",
        "row", "min", "median", "max", "PKRS", "CR3", "locked", "lines"
    );
    for row in rows {
        let Counts { name, instructions, pkrs_writes, cr3_loads, locked, cache_lines, .. } = row;
        // A String takes all that is written.
        let _ = writeln!(
            text,
            "{name:21} {:>10} {:>10} {:>10} {pkrs_writes:>5} {cr3_loads:>4} {locked:>6} {cache_lines:>5}",
            instructions.min, instructions.median, instructions.max
        );
    }
    for row in ROWS {
        let _ = writeln!(text, "  {}: {}", row.name, row.about);
    }
    text
}

/// The rows for a program.
///
/// # Errors
/// None that can be expected.
pub fn json(rows: &[Counts]) -> Result<String> {
    Ok(serde_json::to_string_pretty(&json!({ "rows": rows }))?)
}
