//! The last trial of all: waits for every boot, prints the result matrix and judges whether it is whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use image::workspace::Workspace;
use tests::board::Board;
use tests::matrix::{Configuration, Matrix, Outcome, Row, Tally};
use tests::plan::Plan;

use crate::scenarios;

/// What becomes of a plan in this run.
#[derive(Debug)]
enum Fate {
    Ignored(String),
    /// Names of its tests that were chosen.
    Chosen {
        wanted: Vec<String>,
    },
}

/// What the matrix is made of when all boots have ended.
#[derive(Debug)]
pub(crate) struct Results {
    rows: Vec<(Configuration, Fate)>,
    others: Vec<(String, Fate)>,
    left_out: usize,
}

impl Results {
    /// For `plans`, each with the tests that were chosen of it; some are those of `configurations`.
    pub(crate) fn new(
        configurations: Vec<Configuration>,
        plans: &[Plan],
        wanted: &[Vec<String>],
        left_out: usize,
    ) -> Self {
        let fate = |plan: &Plan, wanted: &Vec<String>| match &plan.ignored {
            Some(reason) => Fate::Ignored(reason.clone()),
            None => Fate::Chosen { wanted: wanted.clone() },
        };
        let mut fates: BTreeMap<_, _> =
            plans.iter().zip(wanted).map(|(plan, wanted)| (plan.name.clone(), fate(plan, wanted))).collect();
        let rows = configurations.into_iter();
        let rows = rows.filter_map(|row| fates.remove(&row.name).map(|fate| (row, fate))).collect();
        Self { rows, others: fates.into_iter().collect(), left_out }
    }

    /// Waits for all boots, prints the matrix, leaves a copy in JSON, and says whether all is well.
    ///
    /// # Errors
    /// What is missing, failed or was skipped without need, or why the copy could not be written.
    pub(crate) fn tell(self, board: &Board, to: &mut dyn Write) -> Result<(), String> {
        let matrix = self.matrix(board);
        write!(to, "\n\n{matrix}\n").and_then(|()| to.flush()).map_err(|e| e.to_string())?;
        let target = Workspace::find().map_err(|e| format!("{e:#}"))?.target().to_owned();
        write_json(&matrix, &target.join("matrix.json"))?;
        matrix.verdict()
    }

    fn matrix(self, board: &Board) -> Matrix {
        let rows = self.rows.into_iter().map(|(configuration, fate)| {
            let outcome = match fate {
                Fate::Ignored(reason) => Outcome::Ignored { reason },
                Fate::Chosen { wanted } if wanted.is_empty() => Outcome::NotChosen,
                Fate::Chosen { wanted } => {
                    let mut tally = Tally::default();
                    tally.add_session(&board.session(&configuration.name), &wanted, scenarios::is_scenario);
                    Outcome::Ran { tally }
                }
            };
            Row { configuration, outcome }
        });
        let rows = rows.collect();
        let (mut other_boots, mut other_tests) = (0, Tally::default());
        for (name, fate) in &self.others {
            if let Fate::Chosen { wanted } = fate
                && !wanted.is_empty()
            {
                other_boots += 1;
                other_tests.add_session(&board.session(name), wanted, scenarios::is_scenario);
            }
        }
        Matrix { rows, other_boots, other_tests, left_out: self.left_out }
    }
}

fn write_json(matrix: &Matrix, file: &Path) -> Result<(), String> {
    let text = serde_json::to_string_pretty(matrix).map_err(|e| e.to_string())?;
    std::fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))
}

/// The results that a trial tells: there once the command line is known.
pub(crate) type Pending = Arc<std::sync::Mutex<Option<Results>>>;
