//! What the plugin wrote, row by row.

use anyhow::{Context, Result, ensure};
use libpks::proto::bench::{ROWS, WARM_UP};
use serde::Serialize;

/// Least, middle and most of a row's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// Half of the samples are no more.
    pub median: u64,
    /// The most.
    pub max: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, median: values[values.len() / 2], max })
    }
}

/// A row's counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The row, with what checks the keys at its end if that is not PKS.
    pub name: String,
    /// How many samples there are.
    pub rounds: usize,
    /// Instructions.
    pub instructions: Spread,
    /// Writes of PKRS, in the middle sample as the next ones.
    pub pkrs_writes: u64,
    /// Loads of CR3.
    pub cr3_loads: u64,
    /// Locked instructions.
    pub locked: u64,
    /// Cache lines of data.
    pub cache_lines: u64,
}

/// What an instruction of the sample that is traced begins with.
pub(super) const STEP: &str = "at ";

/// Numbers of a sample: instructions, and what [`Counts`] has of them.
type Sample = [u64; 5];

/// Reads what the plugin wrote. The rows' names end with `suffix`.
///
/// # Errors
/// When it is cut, malformed, or a row has too few samples.
pub(super) fn read(text: &str, suffix: &str) -> Result<Vec<Counts>> {
    let body = text.strip_suffix("done\n").context("the guest did not come to its last row")?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ROWS.len()];
    for line in body.lines().filter(|line| !line.starts_with(STEP)) {
        let numbers: Vec<u64> =
            line.split(' ').map(str::parse).collect::<Result<_, _>>().with_context(|| format!("{line:?}"))?;
        let [row, sample @ ..] = &numbers[..] else { continue };
        let sample = sample.try_into().with_context(|| format!("{line:?}"))?;
        let place = usize::try_from(*row).ok().and_then(|row| samples.get_mut(row));
        place.with_context(|| format!("no row {row}"))?.push(sample);
    }
    ROWS.iter()
        .zip(samples)
        .map(|(row, samples)| {
            let expected = (row.rounds + WARM_UP) as usize;
            ensure!(samples.len() == expected, "{}: {} samples, not {expected}", row.name, samples.len());
            let counted = &samples[WARM_UP as usize..];
            let spread = |n: usize| Spread::of(counted.iter().map(|sample| sample[n]).collect());
            let [instructions, pkrs, cr3, locked, lines] = [0, 1, 2, 3, 4].map(spread);
            let none = || format!("{}: no samples", row.name);
            Ok(Counts {
                name: format!("{}{suffix}", row.name),
                rounds: counted.len(),
                instructions: instructions.with_context(none)?,
                pkrs_writes: pkrs.with_context(none)?.median,
                cr3_loads: cr3.with_context(none)?.median,
                locked: locked.with_context(none)?.median,
                cache_lines: lines.with_context(none)?.median,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest writes whose every sample of row `n` has `n + 1` instructions but the last, which has ten more.
    fn written() -> String {
        let mut text = String::new();
        for (n, row) in ROWS.iter().enumerate() {
            let count = row.rounds + WARM_UP;
            for round in 0..count {
                let more = if round + 1 == count { 10 } else { 0 };
                text += &format!("{n} {} 4 0 1 6\n", n + 1 + more);
            }
        }
        text + "done\n"
    }

    #[test]
    fn rows_are_read() {
        let rows = read(&written(), "_pku").expect("reads");
        assert_eq!(rows[0].name, format!("{}_pku", ROWS[0].name));
        assert_eq!(rows.len(), ROWS.len());
        assert_eq!(rows[2].instructions, Spread { min: 3, median: 3, max: 13 });
        assert_eq!((rows[2].pkrs_writes, rows[2].cache_lines), (4, 6));
    }

    #[test]
    fn what_is_cut_or_malformed_is_refused() {
        let good = written();
        assert!(read(good.strip_suffix("done\n").expect("it ends so"), "").is_err());
        assert!(read(&good.replacen("0 1 4 0 1 6\n", "", 1), "").is_err(), "a sample is missing");
        assert!(read(&good.replacen("0 1 4 0 1 6\n", "0 1 4 0 1\n", 1), "").is_err(), "a number is missing");
        assert!(read(&good.replacen("0 1 4 0 1 6\n", "999 1 4 0 1 6\n", 1), "").is_err(), "no such row");
    }
}
