//! What goes into the parser and what comes out.

use arrow::array::ArrayRef;

use crate::{ColumnType, Precision};

/// How a body is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseOptions {
    /// The unit of the timestamps.
    pub precision: Precision,
    /// The time of lines without a timestamp, in nanoseconds since 1970 UTC; it is cut to `precision`.
    pub default_time_ns: i64,
    /// The longest tag value, field string or name, in bytes after unescaping (inclusive).
    pub string_bytes_max: usize,
}

impl ParseOptions {
    /// The limit of a string unless another is set: 1 MiB.
    pub const STRING_BYTES_MAX: usize = 1024 * 1024;

    /// Options with the usual string limit.
    pub fn new(precision: Precision, default_time_ns: i64) -> Self {
        Self {
            precision,
            default_time_ns,
            string_bytes_max: Self::STRING_BYTES_MAX,
        }
    }
}

/// A body as columns, and the lines of it that are not.
#[derive(Debug, Default)]
pub struct ParsedBody {
    /// One entry a table that got at least one row, in the order of their first accepted line.
    pub tables: Vec<ParsedTable>,
    /// The rejected lines in the order of the body; at most [`ERRORS_MAX`](crate::ERRORS_MAX) of them.
    pub errors: Vec<LineError>,
    /// How many lines were rejected, described in `errors` or not.
    pub rejected_count: usize,
    /// Data lines seen, accepted and rejected: everything but blank lines and comments.
    pub line_count: usize,
}

/// A line that could not be accepted, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineError {
    /// The physical line in the body where the line begins, counted from 1.
    pub line_number: usize,
    /// The reason, for the client.
    pub message: String,
    /// The beginning of the line, at most [`EXCERPT_BYTES_MAX`](crate::EXCERPT_BYTES_MAX) bytes.
    pub original_line: String,
}

/// The accepted lines of one table.
#[derive(Debug)]
pub struct ParsedTable {
    /// The measurement, unescaped.
    pub name: String,
    /// The tags, then the fields, each in the order of their first appearance, then `time`. There is one
    /// column per name and type: a name that has two types in the body is two columns.
    pub columns: Vec<ParsedColumn>,
    /// Rows of every column; at least 1.
    pub row_count: usize,
    /// The physical line of each row, counted from 1.
    pub line_numbers: Vec<u32>,
    /// The tag set of each row, an index into `tag_set_first_row`. Rows with the same number have equal tags;
    /// two numbers may stand for equal tags that are spelled differently (another order, other escapes).
    pub tag_set_of_row: Vec<u32>,
    /// The first row of each tag set.
    pub tag_set_first_row: Vec<u32>,
    /// The earliest time, in nanoseconds since 1970 UTC.
    pub time_min: i64,
    /// The latest time, in nanoseconds since 1970 UTC.
    pub time_max: i64,
}

/// One column of a [`ParsedTable`].
#[derive(Clone, Debug)]
pub struct ParsedColumn {
    /// The name, unescaped.
    pub name: String,
    /// The kind and type.
    pub column_type: ColumnType,
    /// `row_count` values of type [`ColumnType::arrow_type`], null where the line has no such column.
    pub array: ArrayRef,
}
