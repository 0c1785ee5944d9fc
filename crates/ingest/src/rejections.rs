//! The rows that the schema refuses: all are counted, the first are described.

use tidemill_lineproto::{ERRORS_MAX, Excerpts, LineError};

/// Refused rows, in any order of their lines. What is kept of them is bounded, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    rows: Vec<RejectedRow>,
    count: usize,
    /// Rows from this line on are only counted: there are enough before them.
    described_before: Option<u32>,
}

#[derive(Debug)]
struct RejectedRow {
    line_number: u32,
    message: String,
}

impl Rejections {
    pub(crate) fn add(&mut self, line_number: u32, message: impl FnOnce() -> String) {
        self.count += 1;
        if self.described_before.is_some_and(|line| line_number >= line) {
            return;
        }
        let message = message();
        self.rows.push(RejectedRow { line_number, message });
        // Tables come one after the other, each from the first line on. So the rest is not cut off at once but now and
        // then, which sorts each row a few times at most.
        if self.rows.len() >= 2 * ERRORS_MAX {
            self.rows.sort_unstable_by_key(|row| row.line_number);
            self.described_before = Some(self.rows[ERRORS_MAX].line_number);
            self.rows.truncate(ERRORS_MAX);
        }
    }

    /// All refused rows, described or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The described rows together with the lines of `body` that could not be parsed: by line number, at most
    /// [`ERRORS_MAX`].
    pub(crate) fn describe(&self, body: &str, unparsed: Vec<LineError>) -> Vec<LineError> {
        let mut rows: Vec<&RejectedRow> = self.rows.iter().collect();
        rows.sort_unstable_by_key(|row| row.line_number);
        let mut excerpts = Excerpts::new(body);
        let misfits = rows.into_iter().take(ERRORS_MAX).map(|row| LineError {
            line_number: row.line_number as usize,
            message: row.message.clone(),
            original_line: excerpts.excerpt(row.line_number as usize),
        });
        let mut lines = unparsed;
        lines.extend(misfits);
        lines.sort_by_key(|line| line.line_number);
        lines.truncate(ERRORS_MAX);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_described_whatever_order_they_come_in() {
        let line_count = 3 * ERRORS_MAX as u32;
        let body = "x\n".repeat(line_count as usize);
        let mut rejections = Rejections::default();
        // Two tables whose lines take turns, the later lines first.
        for line_number in (1..=line_count)
            .rev()
            .step_by(2)
            .chain((1..line_count).step_by(2))
        {
            rejections.add(line_number, || format!("refused {line_number}"));
        }
        assert_eq!(rejections.count(), line_count as usize);
        let unparsed = LineError {
            line_number: 2,
            message: "unparsed".to_owned(),
            original_line: "x".to_owned(),
        };
        let lines = rejections.describe(&body, vec![unparsed]);
        assert_eq!(lines.len(), ERRORS_MAX);
        let numbers: Vec<usize> = lines.iter().map(|line| line.line_number).collect();
        let expected: Vec<usize> = [1, 2].into_iter().chain(2..ERRORS_MAX).collect();
        assert_eq!(numbers, expected);
        assert_eq!(lines[2].message, "refused 2");
        assert!(lines.iter().all(|line| line.original_line == "x"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut rejections = Rejections::default();
        for line_number in 1..=100_000 {
            rejections.add(line_number, || "no".to_owned());
        }
        assert_eq!(rejections.count(), 100_000);
        assert!(rejections.rows.len() <= 2 * ERRORS_MAX);
        assert_eq!(
            rejections.rows.last().map(|row| row.line_number),
            Some(ERRORS_MAX as u32)
        );
    }
}
