//! Aligned columns of plain text, as `kubectl` prints them.

use std::fmt::{self, Write as _};

/// A table: the titles first, then a row for each thing.
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    right: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A table with a column for each title. Columns whose title starts with `#` hold numbers: they are aligned to
    /// the right, and the `#` is not shown.
    #[must_use]
    pub fn new(titles: [&str; N]) -> Self {
        Self {
            rows: vec![titles.map(|title| title.trim_start_matches('#').to_owned())],
            right: titles.map(|title| title.starts_with('#')),
        }
    }

    /// Adds a row. Empty cells are shown as `-`.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(widths).zip(self.right) {
                if right {
                    write!(line, "{cell:>width$}   ")?;
                } else {
                    write!(line, "{cell:<width$}   ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(["NAME", "#PACKETS", "POD"]);
        table.row(["echo".into(), "7".into(), String::new()]);
        table.row(["a-longer-name".into(), "1234567".into(), "default/a".into()]);
        assert_eq!(
            table.to_string(),
            "NAME            PACKETS   POD\n\
             echo                  7   -\n\
             a-longer-name   1234567   default/a\n"
        );
    }
}
