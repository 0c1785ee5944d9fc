//! What a dry run would have written, and what would have been wrong with it (engine.md 5.9).

use tidemill_catalog::{CatalogError, CatalogState, Strictness, validate_database_name};
use tidemill_ingest::DatabaseLines;
use tidemill_lineproto::{LineError, ParseOptions, ParsedTable, Precision, excerpt, parse};

use crate::plugin_logs::now_ns;
use crate::requests::TestReport;

/// Longest string that a write takes (`spec/database.md` 3.4).
const STRING_BYTES_MAX: usize = 1024 * 1024;

/// Enters the writes into the report, and the reasons for which the server would refuse them.
pub(crate) fn describe(state: &CatalogState, writes: &[DatabaseLines], report: &mut TestReport) {
    for write in writes {
        let text = String::from_utf8_lossy(&write.lines);
        let lines = report.database_writes.entry(write.database.clone()).or_default();
        lines.extend(split_lines(&text).into_iter().map(str::to_owned));
    }
    for (database, lines) in &report.database_writes {
        if let Err(error) = validate_database_name(database, Strictness::Weak) {
            report
                .errors
                .push(format!("database name {database} is invalid: {error}"));
            continue;
        }
        for error in refused_lines(state, database, &lines.join("\n")) {
            report.errors.push(format!(
                "line protocol parse error on write to db {database}: WriteLineError {{ original_line: {:?}, \
                 line_number: {}, error_message: {:?} }}",
                error.original_line, error.line_number, error.message
            ));
        }
    }
}

fn refused_lines(state: &CatalogState, database: &str, body: &str) -> Vec<LineError> {
    let options = ParseOptions {
        precision: Precision::Nanosecond,
        default_time_ns: now_ns(),
        string_bytes_max: STRING_BYTES_MAX,
    };
    let parsed = parse(body, &options);
    let mut errors = parsed.errors;
    for table in &parsed.tables {
        errors.extend(type_conflict(state, database, table, body));
    }
    errors.sort_by_key(|error| error.line_number);
    errors
}

/// The first column of a table that the catalog has with another type.
fn type_conflict(
    state: &CatalogState,
    database: &str,
    written: &ParsedTable,
    body: &str,
) -> Option<LineError> {
    let table = state.database(database)?.table(&written.name)?;
    written.columns.iter().find_map(|column| {
        let present = table
            .column(&column.name)
            .filter(|present| present.column_type != column.column_type)?;
        let conflict = CatalogError::ColumnTypeConflict {
            column: column.name.clone(),
            expected: present.column_type,
            got: column.column_type,
        };
        let row = (0..written.row_count).find(|row| column.array.is_valid(*row))?;
        let line_number = written
            .line_numbers
            .get(row)
            .map_or(1, |line_number| *line_number as usize);
        Some(LineError {
            line_number,
            message: conflict.to_string(),
            original_line: excerpt(body, line_number),
        })
    })
}

/// Cuts line protocol into lines; a line feed inside a quoted string does not end one.
fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let (mut in_fields, mut in_quotes, mut escaped) = (false, false, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' if in_fields => in_quotes = !in_quotes,
            b' ' => in_fields = true,
            b'\n' if !in_quotes => {
                lines.push(&text[start..position]);
                start = position + 1;
                in_fields = false;
            }
            _ => {}
        }
    }
    lines.push(&text[start..]);
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_line_feeds_outside_of_strings() {
        for (text, lines) in [
            ("a x=1\nb y=2\n", vec!["a x=1", "b y=2"]),
            ("a s=\"one\ntwo\" 1\nb y=2", vec!["a s=\"one\ntwo\" 1", "b y=2"]),
            ("a s=\"q\\\"\n\"\nb y=2", vec!["a s=\"q\\\"\n\"", "b y=2"]),
            ("a,t=say\" x=1\nb y=2", vec!["a,t=say\" x=1", "b y=2"]),
            ("", vec![]),
        ] {
            assert_eq!(split_lines(text), lines, "{text:?}");
        }
    }
}
