//! Tables with aligned columns.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};

/// On which side of its column a cell stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table of `N` columns.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    sides: [Side; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings.
    pub fn new(columns: [(&str, Side); N]) -> Self {
        Self {
            sides: columns.map(|(_, side)| side),
            rows: Vec::from([columns.map(|(name, _)| name.to_string())]),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [&dyn Display; N]) {
        self.rows.push(cells.map(|cell| cell.to_string()));
    }
}

impl<const N: usize> Display for Table<N> {
    /// Each row as a line, two spaces between columns, none at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, side), width) in row.iter().zip(self.sides).zip(widths) {
                line += &match side {
                    Side::Left => alloc::format!("{cell:<width$}  "),
                    Side::Right => alloc::format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A value, or a dash if there is none.
pub fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_to_their_sides() {
        let mut table = Table::new([("id", Side::Right), ("name", Side::Left), ("key", Side::Right)]);
        table.row([&1, &"init", &or_dash(Some(2))]);
        table.row([&10, &"é", &or_dash::<u8>(None)]);
        assert_eq!(table.to_string(), "id  name  key\n 1  init    2\n10  é       -\n");
    }
}
