//! The rows as a picture: a bar for each, on a logarithmic scale, and a mark where the last accepted count is.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use super::{Accepted, Counts};

/// Pixels: the whole width, a row's height, what is left for names, for numbers, for head and foot.
const WIDTH: u32 = 900;
const ROW: u32 = 22;
const NAMES: u32 = 150;
const NUMBERS: u32 = 150;
const HEAD: u32 = 40;
const FOOT: u32 = 40;

const BAR: RGBColor = RGBColor(86, 128, 170);
const GRID: RGBColor = RGBColor(215, 215, 215);
const INK: RGBColor = RGBColor(40, 40, 40);
const MARK: RGBColor = RGBColor(200, 80, 40);

/// Draws the rows into an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn picture(rows: &[Counts], accepted: &Accepted, file: &Path) -> Result<()> {
    draw(rows, accepted, file).map_err(|error| anyhow!("{error}")).with_context(|| file.display().to_string())
}

fn draw(rows: &[Counts], accepted: &Accepted, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let height = HEAD + ROW * u32::try_from(rows.len())? + FOOT;
    let most = rows.iter().map(|row| row.instructions.median).max().unwrap_or(1).max(10);
    let powers = most.ilog10() + 1;
    let scale = Scale { powers };
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let words = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let head = "Instructions of each operation (median); an orange mark is what was accepted before";
    root.draw(&Text::new(head, (10, 12), words(15)))?;
    let bottom = height - FOOT;
    for power in 0..=powers {
        let x = scale.at(10_u64.pow(power));
        root.draw(&PathElement::new([(x, pixels(HEAD)), (x, pixels(bottom))], GRID))?;
        root.draw(&Text::new(grouped(10_u64.pow(power)), (x - 8, pixels(bottom) + 8), words(12)))?;
    }
    for (n, row) in (0..).zip(rows) {
        let (top, count) = (pixels(HEAD + n * ROW), row.instructions.median);
        let (upper, lower) = (top + 4, top + pixels(ROW) - 4);
        root.draw(&Text::new(row.name.clone(), (10, top + 4), words(13)))?;
        root.draw(&Rectangle::new([(scale.at(1), upper), (scale.at(count), lower)], BAR.filled()))?;
        if let Some(before) = accepted.instructions(&row.name) {
            let x = scale.at(before);
            root.draw(&Rectangle::new([(x - 1, top + 1), (x + 1, lower + 3)], MARK.filled()))?;
        }
        let writes = format!("{}, {} PKRS", grouped(count), row.pkrs_writes);
        root.draw(&Text::new(writes, (pixels(WIDTH - NUMBERS) + 10, top + 4), words(13)))?;
    }
    root.present()?;
    Ok(())
}

/// From counts to pixels.
struct Scale {
    powers: u32,
}

impl Scale {
    fn at(&self, count: u64) -> i32 {
        let width = f64::from(WIDTH - NAMES - NUMBERS);
        let part = (count.max(1) as f64).log10() / f64::from(self.powers);
        pixels(NAMES) + (width * part).round() as i32
    }
}

fn pixels(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (count, text) in [(0, "0"), (154, "154"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn the_scale_is_logarithmic_and_stays_within() {
        let scale = Scale { powers: 4 };
        let places = [1, 10, 100, 1000, 10_000].map(|count| scale.at(count));
        assert_eq!((places[0], places[4]), (pixels(NAMES), pixels(WIDTH - NUMBERS)));
        let steps: Vec<i32> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| (149..=151).contains(step)), "{steps:?}");
        assert_eq!(scale.at(0), scale.at(1));
    }
}
