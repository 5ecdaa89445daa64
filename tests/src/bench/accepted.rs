//! The counts that were last accepted, and what is worse than they.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Counts;

/// How many hundredths more instructions a row may have.
const LEEWAY: u64 = 3;

/// All rows that were accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    #[serde(rename = "row")]
    rows: Vec<Row>,
}

/// A row, and why it is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    name: String,
    /// Median.
    pub(super) instructions: u64,
    pub(super) pkrs_writes: u64,
    cr3_loads: u64,
    locked: u64,
    because: String,
}

/// A count that is worse than what was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worse {
    name: String,
    what: &'static str,
    accepted: u64,
    counted: u64,
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, what, accepted, counted } = self;
        write!(f, "{name}: {counted} {what}, accepted are {accepted}")
    }
}

impl Accepted {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let head = "# What `just bench` counted when it was last accepted. A row that gets worse needs a reason:\n\
                    # `just bench accept=\"REASON\"` writes it here.\n\n";
        std::fs::write(file, format!("{head}{}", toml::to_string(self)?)).context("it cannot be written")
    }

    pub(super) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The instructions of a row, if it was ever accepted.
    pub(super) fn instructions(&self, name: &str) -> Option<u64> {
        self.row(name).map(|row| row.instructions)
    }

    /// What is worse: more than 3 % more instructions, or any more of the others.
    ///
    /// # Errors
    /// For a row that nobody has accepted yet.
    pub fn worse(&self, counted: &[Counts]) -> Result<Vec<Worse>> {
        let mut worse = Vec::new();
        for counts in counted {
            let row = self.rows.iter().find(|row| row.name == counts.name);
            let row = row.with_context(|| format!("{} was never accepted", counts.name))?;
            let most = row.instructions + row.instructions * LEEWAY / 100;
            let all = [
                ("instructions", row.instructions, most, counts.instructions.median),
                ("writes of PKRS", row.pkrs_writes, row.pkrs_writes, counts.pkrs_writes),
                ("loads of CR3", row.cr3_loads, row.cr3_loads, counts.cr3_loads),
                ("locked instructions", row.locked, row.locked, counts.locked),
            ];
            worse.extend(all.into_iter().filter(|(_, _, most, counted)| counted > most).map(
                |(what, accepted, _, counted)| Worse { name: counts.name.clone(), what, accepted, counted },
            ));
        }
        Ok(worse)
    }

    /// Accepts what was counted. A row that is new or has changed gets the reason.
    ///
    /// # Errors
    /// When the reason is empty.
    pub fn accept(&self, counted: &[Counts], because: &str) -> Result<Self> {
        ensure!(!because.trim().is_empty(), "a reason is missing");
        let row = |counts: &Counts| {
            let new = Row {
                name: counts.name.clone(),
                instructions: counts.instructions.median,
                pkrs_writes: counts.pkrs_writes,
                cr3_loads: counts.cr3_loads,
                locked: counts.locked,
                because: because.to_owned(),
            };
            let old = self.rows.iter().find(|row| row.name == new.name);
            match old {
                Some(old) if Row { because: old.because.clone(), ..new.clone() } == *old => old.clone(),
                _ => new,
            }
        };
        Ok(Self { rows: counted.iter().map(row).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Spread;

    fn counts(instructions: u64, pkrs_writes: u64) -> Counts {
        Counts {
            name: "call".into(),
            rounds: 1,
            instructions: Spread { min: 0, median: instructions, max: 0 },
            pkrs_writes,
            cr3_loads: 0,
            locked: 1,
            cache_lines: 0,
        }
    }

    #[test]
    fn three_hundredths_are_not_worse_and_four_are() {
        let accepted = Accepted::default().accept(&[counts(100, 4)], "first").expect("has a reason");
        let worse =
            |counts| accepted.worse(&[counts]).expect("is there").iter().map(ToString::to_string).collect();
        let nothing: Vec<String> = worse(counts(103, 4));
        assert!(nothing.is_empty() && worse(counts(10, 3)).is_empty());
        assert_eq!(worse(counts(104, 4)), ["call: 104 instructions, accepted are 100"]);
        assert_eq!(worse(counts(100, 5)), ["call: 5 writes of PKRS, accepted are 4"]);
    }

    #[test]
    fn what_has_not_changed_keeps_its_reason() {
        let first = Accepted::default().accept(&[counts(100, 4)], "first").expect("has a reason");
        assert_eq!(first.accept(&[counts(100, 4)], "second").expect("has a reason"), first);
        let second = first.accept(&[counts(101, 4)], "second").expect("has a reason");
        assert_eq!(second.rows[0].because, "second");
        assert!(first.accept(&[], " ").is_err());
        assert!(Accepted::default().worse(&[counts(1, 1)]).is_err(), "never accepted");
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let accepted = Accepted::default().accept(&[counts(100, 4)], "a \"reason\"").expect("has a reason");
        let file = tempfile::NamedTempFile::new().expect("a file");
        accepted.write(file.path()).expect("writes");
        assert_eq!(Accepted::read(file.path()).expect("reads"), accepted);
    }
}
