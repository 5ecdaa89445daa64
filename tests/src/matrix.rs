//! The result matrix: what came of each configuration, as a table for people and as JSON for programs.

use std::fmt::Write;

use libpks::abi::inspect::Isolation;
use serde::Serialize;

use crate::session::Session;

/// A machine as the matrix tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// The name of its plan.
    pub name: String,
    /// Who loads the kernel; with the machine type where that is not the usual one.
    pub loader: String,
    /// Page-table levels.
    pub levels: u8,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What walls the domains off there.
    pub isolation: Isolation,
    /// QEMU's CPU model.
    pub cpu: String,
    /// Whether each domain has a view of its own.
    pub apart: bool,
}

/// Tests by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Done, and good.
    pub passed: usize,
    /// Not good.
    pub failed: usize,
}

/// What came of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    /// The scenarios that the guest runs.
    pub scenarios: Counts,
    /// Everything else.
    pub others: Counts,
    /// Tests that were wanted and have no result.
    pub missing: Vec<String>,
    /// How often the machine was booted.
    pub boots: usize,
    /// How long that took.
    pub seconds: f64,
}

/// A line of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which machine.
    #[serde(flatten)]
    pub configuration: Configuration,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether a configuration was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was.
    Ran {
        /// What came of it.
        #[serde(flatten)]
        tally: Tally,
    },
    /// This host cannot run it.
    Ignored {
        /// Why.
        reason: String,
    },
    /// The command line chose none of its tests.
    NotChosen,
}

/// The whole matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matrix {
    /// One row a configuration.
    pub rows: Vec<Row>,
    /// Plans that are no configurations: dialogues, bad input, crimes and the like.
    pub other_boots: usize,
    /// What came of those.
    pub other_tests: Tally,
    /// Configurations that are a part of the full matrix alone, and this is not it.
    pub left_out: usize,
}

impl Counts {
    fn count(&mut self, result: &crate::session::Result) {
        *match result {
            Ok(()) => &mut self.passed,
            Err(_) => &mut self.failed,
        } += 1;
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    /// Adds what came of the tests that were `wanted` of a plan.
    pub fn add_session(&mut self, session: &Session, wanted: &[String], is_scenario: impl Fn(&str) -> bool) {
        for name in wanted {
            match session.results.get(name) {
                None => self.missing.push(name.clone()),
                Some(result) if is_scenario(name) => self.scenarios.count(result),
                Some(result) => self.others.count(result),
            }
        }
        self.boots += session.boots;
        self.seconds += session.elapsed.as_secs_f64();
    }

    fn add(&mut self, other: &Self) {
        self.scenarios.add(other.scenarios);
        self.others.add(other.others);
        self.missing.extend_from_slice(&other.missing);
        self.boots += other.boots;
        self.seconds += other.seconds;
    }

    fn columns(&self) -> String {
        let (s, o) = (self.scenarios, self.others);
        format!(
            "{:>6} {:>6}  {:>6} {:>6}  {:>5}  {:>7.1}",
            s.passed, s.failed, o.passed, o.failed, self.boots, self.seconds
        )
    }
}

impl Matrix {
    /// The sums over all configurations that were run, and how many those were.
    #[must_use]
    pub fn totals(&self) -> (usize, Tally) {
        let mut ran = 0;
        let mut sum = Tally::default();
        for row in &self.rows {
            if let Outcome::Ran { tally } = &row.outcome {
                ran += 1;
                sum.add(tally);
            }
        }
        (ran, sum)
    }

    /// Whether every configuration that was to run did so with all its tests and passed.
    ///
    /// # Errors
    /// One line for each thing that is wrong.
    pub fn verdict(&self) -> Result<(), String> {
        let mut wrong: Vec<String> = self.rows.iter().filter_map(Row::wrong).collect();
        if self.totals().0 == 0 {
            wrong.push("no configuration was run".into());
        }
        match self.other_tests.trouble() {
            Some(trouble) => wrong.push(format!("the other boots: {trouble}")),
            None if wrong.is_empty() => return Ok(()),
            None => {}
        }
        Err(wrong.join("\n"))
    }
}

impl Tally {
    fn trouble(&self) -> Option<String> {
        let failed = self.scenarios.failed + self.others.failed;
        if !self.missing.is_empty() {
            return Some(format!("no result of {}", self.missing.join(", ")));
        }
        (failed > 0).then(|| format!("{failed} failed"))
    }
}

impl Row {
    fn wrong(&self) -> Option<String> {
        let Outcome::Ran { tally } = &self.outcome else { return None };
        let never = (tally.boots == 0).then(|| "it was never booted".to_owned());
        let trouble = never.or_else(|| tally.trouble());
        trouble.map(|trouble| format!("{}: {trouble}", self.configuration.name))
    }

    fn line(&self) -> String {
        let of = &self.configuration;
        let memory = match of.memory_mib {
            mib if mib % 1024 == 0 => format!("{}G", mib / 1024),
            mib => format!("{mib}M"),
        };
        let keys = match (of.isolation, of.cpu.as_str()) {
            (isolation, "qemu64") => format!("{isolation}, qemu64"),
            (isolation, _) if of.apart => format!("{isolation}, apart"),
            (isolation, _) => isolation.to_string(),
        };
        let columns = match &self.outcome {
            Outcome::Ran { tally } => tally.columns(),
            Outcome::Ignored { reason } => format!("not run: {reason}"),
            Outcome::NotChosen => "not chosen".into(),
        };
        format!("{:<16}{:>6} {:>5} {:>7}  {:<12}{columns}", of.loader, of.levels, of.cpus, memory, keys)
    }
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("{:<50}{:<14} {:<13}\n", "", "scenarios", "other tests");
        let head = format!("{:<16}{:>6} {:>5} {:>7}  {:<12}", "loader", "levels", "CPUs", "memory", "keys");
        let columns = "passed failed  passed failed  boots  seconds";
        writeln!(text, "{head}{columns}\n{}", "-".repeat(head.len() + columns.len()))?;
        for row in &self.rows {
            writeln!(text, "{}", row.line())?;
        }
        let (ran, sum) = self.totals();
        let title = format!("{ran} of {} configurations", self.rows.len() + self.left_out);
        writeln!(text, "{title:<50}{}", sum.columns())?;
        if self.other_boots > 0 {
            let title = format!("{} other machines", self.other_boots);
            writeln!(text, "{title:<50}{}", self.other_tests.columns())?;
        }
        if self.left_out > 0 {
            writeln!(text, "{} more configurations are a part of `just test-all`.", self.left_out)?;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
