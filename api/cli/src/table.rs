//! Tables of aligned columns.

use super::screen::Paint;

/// Where the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header, two spaces between columns, nothing after the last cell of a row.
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().map(|cell| printable(&cell)).collect();
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(cells);
    }

    /// The text, each line ended.
    pub(super) fn text(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| self.rows.iter().map(|row| width(&row[at])).chain([width(self.columns[at].0)]).max().unwrap_or(0))
            .collect();
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut text = paint.bold(&self.line(&header, &widths)) + "\n";
        for row in &self.rows {
            text += &self.line(row, &widths);
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width_of_column), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            if !line.is_empty() {
                line += "  ";
            }
            let pad = " ".repeat(width_of_column - width(cell));
            match align {
                Align::Left => line.extend([cell.as_str(), &pad]),
                Align::Right => line.extend([pad.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Names come from clients: a control character in one must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("SKU", Align::Left), ("UNITS", Align::Right), ("NAME", Align::Left)]);
        table.row(["85123A".to_owned(), "31,413".to_owned(), "WHITE HANGING HEART".to_owned()]);
        table.row(["é\u{1b}".to_owned(), "1".to_owned(), String::new()]);
        let expected = "\
SKU      UNITS  NAME
85123A  31,413  WHITE HANGING HEART
é\u{fffd}           1
";
        assert_eq!(table.text(Paint::plain()), expected);
    }

    #[test]
    fn only_the_header_is_painted() {
        let mut table = Table::new(&[("A", Align::Left)]);
        table.row(["b".to_owned()]);
        assert_eq!(table.text(Paint::coloured()), "\u{1b}[1mA\u{1b}[0m\nb\n");
    }
}
