//! Line protocol to Arrow columns, and rows to line protocol.
//!
//! **It is** the parser of write bodies ([`parse`]): bytes straight into column builders, one set of columns
//! a table, with no row objects in between; the core of the plugins' line builder ([`LineBuilder`]); and
//! Arrow tables as lines ([`TableLines`]).
//!
//! **It is not** a schema check: it knows no catalog, so that one name with two types in a body is two
//! columns, and whoever knows the table's types decides which rows stand. It does no I/O, reads no clock and
//! never panics, whatever the bytes.
//!
//! Invariants:
//! - Every data line is either a row of exactly one table or one rejected line: rows + rejected = lines seen.
//! - A rejected line leaves nothing behind: no table, column, tag value or tag set exists because of it.
//! - All columns of a [`ParsedTable`] have `row_count` values, each column has at least one value that is not
//!   null, and `time` is never null.
//! - Memory is bounded: what a body may expand to as dense columns is limited ([`MEMORY_BYTES_MAX`]), and so
//!   is the number of rejected lines that are described ([`ERRORS_MAX`]).
//!
//! # How it is fast
//!
//! Lines of one body resemble each other. The measurement and tags of a line are compared, unparsed, with
//! those of the line that came next the last time, then looked up by one hash; only a new spelling is parsed,
//! once per body. Field names are compared with the name that followed the last one before. Digits are read
//! eight at a time.

#![deny(unsafe_code)]

mod column_type;
mod dictionary;
mod excerpt;
mod field_column;
mod key;
mod line_builder;
mod names;
mod number;
mod parsed;
mod parser;
mod precision;
mod python_float;
mod reject;
mod source;
mod table;
mod table_lines;
mod tag_column;
mod tag_set;
mod value;

pub use column_type::ColumnType;
pub use excerpt::{EXCERPT_BYTES_MAX, Excerpts, excerpt};
pub use line_builder::{LineBuilder, LineBuilderError};
pub use parsed::{LineError, ParseOptions, ParsedBody, ParsedColumn, ParsedTable};
pub use parser::{ERRORS_MAX, MEMORY_BYTES_MAX, parse};
pub use precision::Precision;
pub use python_float::python_float_repr;
pub use table_lines::{TableLines, TableLinesError, TableOptions};
