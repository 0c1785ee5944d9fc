//! From lines to rows: the loop over the body, and what happens to a line that is rejected.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use memchr::memchr_iter;

use crate::excerpt::{cut, line_end};
use crate::number::{digits, signed};
use crate::reject::Reject;
use crate::source::{MEASUREMENT_ESCAPES, Source, Span, find_unescaped, unescape};
use crate::table::{LineScope, TableBuilder};
use crate::tag_set::{TagRef, TagSets};
use crate::{LineError, ParseOptions, ParsedBody};

/// The most rejected lines of a body that are described; the others are only counted.
pub const ERRORS_MAX: usize = 10_000;

/// What the columns of a body may take in memory, as estimated while it is read, in bytes. A body of many
/// lines that each have other fields grows with the product of both; lines beyond this are rejected.
pub const MEMORY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Estimates of what goes with a value, a column and a table, in bytes.
const CELL_BYTES: usize = 8;
const COLUMN_BYTES: usize = 1024;
const TABLE_BYTES: usize = 2048;

/// Offsets and numbers are 32 bits wide.
const BODY_BYTES_MAX: usize = u32::MAX as usize;

/// Parses a body of line protocol into columns, per `spec/database.md` 3.5 and 3.7. Lines that are not well
/// formed, or at odds with themselves, are reported in [`ParsedBody::errors`] and leave nothing in the
/// columns.
///
/// Lines end at a newline (and a carriage return before it) outside quoted strings. Blank lines and lines
/// that begin with `#` are skipped. A rejected line ends at its first newline that is not in a properly
/// closed quoted field value.
pub fn parse(body: &str, options: &ParseOptions) -> ParsedBody {
    let source = Source::new(body, options.string_bytes_max);
    if body.len() > BODY_BYTES_MAX {
        let error = LineError {
            line_number: 1,
            message: format!("a write of more than {BODY_BYTES_MAX} bytes cannot be parsed"),
            original_line: cut(body).to_owned(),
        };
        return ParsedBody {
            errors: vec![error],
            rejected_count: 1,
            line_count: 1,
            ..ParsedBody::default()
        };
    }
    let mut parser = Parser::new(source, options, MEMORY_BYTES_MAX);
    parser.read_body();
    parser.finish()
}

struct Parser<'a> {
    source: Source<'a>,
    options: ParseOptions,
    hasher: RandomState,
    tables: Vec<TableBuilder<'a>>,
    by_measurement: HashTable<u32>,
    tag_sets: TagSets<'a>,
    /// The tags of the tag set in hand.
    tags: Vec<TagRef>,
    /// How many tag sets have been read, rejected ones included.
    tag_set_reads: u64,
    /// Estimate of what the accepted lines take.
    memory_bytes: usize,
    memory_bytes_max: usize,
    errors: Vec<LineError>,
    rejected_count: usize,
    line_count: usize,
}

/// What the line in hand has added to the body besides columns and values.
#[derive(Clone, Copy, Default)]
struct LineAdditions {
    /// The line's table, once it is known.
    table: Option<u32>,
    is_table_new: bool,
    is_tag_set_new: bool,
}

/// Where an accepted line ends, and how many newlines are in its strings.
struct LineEnd {
    at: usize,
    newlines: u32,
}

impl<'a> Parser<'a> {
    fn new(source: Source<'a>, options: &ParseOptions, memory_bytes_max: usize) -> Self {
        let default_time_ns = options.precision.truncate_ns(options.default_time_ns);
        Self {
            source,
            options: ParseOptions {
                default_time_ns,
                ..*options
            },
            hasher: RandomState::default(),
            tables: Vec::new(),
            by_measurement: HashTable::new(),
            tag_sets: TagSets::default(),
            tags: Vec::new(),
            tag_set_reads: 0,
            memory_bytes: 0,
            memory_bytes_max,
            errors: Vec::new(),
            rejected_count: 0,
            line_count: 0,
        }
    }

    fn read_body(&mut self) {
        let mut at = 0;
        let mut line_number = 1;
        while at < self.source.len() {
            let start = self.source.skip_blanks(at);
            let end = if self.source.is_line_end(start) {
                start
            } else if self.source.byte(start) == b'#' {
                self.source.physical_line_end(start)
            } else {
                let line_start = Span {
                    start: at,
                    end: start,
                };
                self.line_count += 1;
                let mut additions = LineAdditions::default();
                match self.read_line(start, line_number, &mut additions) {
                    Ok(line) => {
                        line_number += line.newlines as usize;
                        line.at
                    }
                    Err(reject) => {
                        let end = self.reject_line(line_start, line_number, reject, additions);
                        line_number += memchr_iter(b'\n', &self.source.bytes[start..end]).count();
                        end
                    }
                }
            };
            let is_carriage_return = self.source.byte(end) == b'\r';
            at = end + usize::from(is_carriage_return) + 1;
            line_number += 1;
        }
    }

    /// Reads the line whose measurement is at `start` into its table.
    #[inline]
    fn read_line(
        &mut self,
        start: usize,
        line_number: usize,
        additions: &mut LineAdditions,
    ) -> Result<LineEnd, Reject> {
        let source = self.source;
        let (tag_set, series_end) = match self.tag_sets.predicted(&source, start) {
            Some(predicted) => predicted,
            None => self.look_up_tag_set(start, additions)?,
        };
        let table_index = self.tag_sets.table(tag_set);
        additions.table = Some(table_index);
        let table = &mut self.tables[table_index as usize];
        let scope = LineScope {
            source,
            hasher: &self.hasher,
            tags: self.tag_sets.tags(tag_set),
        };
        let fields = table.read_fields(scope, source.skip_spaces(series_end))?;
        let (time_ns, end) = read_time(&source, fields.at, &self.options)?;

        let mut memory_bytes = self.memory_bytes + (table.column_count() + 2) * CELL_BYTES;
        if table.has_additions() {
            let columns_added = table.columns_added();
            memory_bytes += columns_added * (COLUMN_BYTES + table.row_count() * CELL_BYTES);
            memory_bytes += usize::from(additions.is_table_new) * TABLE_BYTES;
        }
        if memory_bytes > self.memory_bytes_max {
            return Err(Reject::MemoryExhausted);
        }
        self.memory_bytes = memory_bytes;
        table.accept(&mut self.tag_sets, tag_set, time_ns, line_number);
        Ok(LineEnd {
            at: end,
            newlines: fields.newlines,
        })
    }

    /// The tag set whose measurement is at `start`, read if its spelling is new, and the offset of the space
    /// behind it.
    #[inline(never)]
    fn look_up_tag_set(
        &mut self,
        start: usize,
        additions: &mut LineAdditions,
    ) -> Result<(u32, usize), Reject> {
        let Some(end) = self.source.unescaped_space(start) else {
            let end = self.source.physical_line_end(start);
            self.read_series(Span { start, end }, additions)?;
            return Err(Reject::NoSpace);
        };
        let spelling = &self.source.bytes[start..end];
        let hash = TagSets::hash(&self.hasher, spelling);
        if let Some(tag_set) = self.tag_sets.find(hash, spelling) {
            return Ok((tag_set, end));
        }
        let table = self.read_series(Span { start, end }, additions)?;
        let tag_set = self.tag_sets.push(hash, spelling, table, &self.tags);
        additions.is_tag_set_new = true;
        Ok((tag_set, end))
    }

    /// Reads a measurement and its tags, which become `self.tags`; returns the table.
    fn read_series(&mut self, series: Span, additions: &mut LineAdditions) -> Result<u32, Reject> {
        let source = self.source;
        let bytes = &source.bytes[series.start..series.end];
        let measurement_len = find_unescaped(bytes, |byte| byte == b',');
        let measurement = Span {
            start: series.start,
            end: series.start + measurement_len,
        };
        if measurement_len == 0 {
            return Err(Reject::InvalidMeasurement);
        }
        if bytes[measurement_len - 1] == b'\\' {
            return Err(Reject::TrailingBackslash);
        }
        let table = self.look_up_table(measurement, additions)?;
        additions.table = Some(table);
        self.tags.clear();
        if measurement.end < series.end {
            self.tag_set_reads += 1;
            let tags = Span {
                start: measurement.end + 1,
                end: series.end,
            };
            let table = &mut self.tables[table as usize];
            table.read_tags(source, &self.hasher, tags, self.tag_set_reads, &mut self.tags)?;
        }
        Ok(table)
    }

    /// The table of a measurement, made if there is none.
    fn look_up_table(&mut self, measurement: Span, additions: &mut LineAdditions) -> Result<u32, Reject> {
        let name = unescape(self.source.slice(measurement), MEASUREMENT_ESCAPES);
        if name.len() > self.options.string_bytes_max {
            return Err(Reject::StringTooLong);
        }
        let hash = self.hasher.hash_one(&name);
        if let Some(&table) = self
            .by_measurement
            .find(hash, |&table| self.tables[table as usize].name == name)
        {
            return Ok(table);
        }
        let table = self.tables.len() as u32;
        self.tables.push(TableBuilder::new(name, hash));
        let tables = &self.tables;
        self.by_measurement
            .insert_unique(hash, table, |&table| tables[table as usize].name_hash);
        additions.is_table_new = true;
        Ok(table)
    }

    /// Removes what a line has left, reports it, and returns where it ends. The line with its indentation
    /// starts at `line.start`, its measurement at `line.end`.
    #[cold]
    #[inline(never)]
    fn reject_line(
        &mut self,
        line: Span,
        line_number: usize,
        reject: Reject,
        additions: LineAdditions,
    ) -> usize {
        if additions.is_tag_set_new {
            self.tag_sets.pop();
        }
        if let Some(table) = additions.table {
            self.tables[table as usize].roll_back(&self.hasher);
        }
        if additions.is_table_new
            && let Some(table) = self.tables.pop()
        {
            let index = self.tables.len() as u32;
            if let Ok(entry) = self
                .by_measurement
                .find_entry(table.name_hash, |&other| other == index)
            {
                entry.remove();
            }
        }
        self.rejected_count += 1;
        let end = line_end(&self.source, line.end);
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(LineError {
                line_number,
                message: reject.message(&self.source, end),
                original_line: cut(self.source.slice(Span {
                    start: line.start,
                    end,
                }))
                .to_owned(),
            });
        }
        end
    }

    fn finish(self) -> ParsedBody {
        let tag_sets = self.tag_sets;
        ParsedBody {
            tables: self
                .tables
                .into_iter()
                .map(|table| table.finish(&tag_sets))
                .collect(),
            errors: self.errors,
            rejected_count: self.rejected_count,
            line_count: self.line_count,
        }
    }
}

/// Reads the rest of a line behind its fields: the time, if there is one. Returns it and the end of the line.
#[inline]
fn read_time(source: &Source<'_>, fields_end: usize, options: &ParseOptions) -> Result<(i64, usize), Reject> {
    if source.byte(fields_end) != b' ' {
        if !source.is_line_end(fields_end) {
            return Err(Reject::TrailingContent { at: fields_end });
        }
        return Ok((options.default_time_ns, fields_end));
    }
    let start = source.skip_spaces(fields_end);
    if source.is_line_end(start) {
        return Ok((options.default_time_ns, start));
    }
    let negative = source.byte(start) == b'-';
    let digits_start = start + usize::from(negative);
    let number = digits(source, digits_start);
    if number.count == 0 {
        return Err(Reject::TrailingContent { at: fields_end });
    }
    let digits_end = digits_start + number.count;
    let end = source.skip_spaces(digits_end);
    if !source.is_line_end(end) {
        return Err(Reject::TrailingContent { at: end });
    }
    let span = Span {
        start,
        end: digits_end,
    };
    let timestamp = signed(negative, number, &source.bytes[digits_start..digits_end])
        .ok_or(Reject::InvalidTimestamp { digits: span })?;
    let time_ns = options
        .precision
        .to_ns(timestamp)
        .ok_or(Reject::TimestampOutOfRange {
            timestamp,
            precision: options.precision,
        })?;
    Ok((time_ns, end))
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;
    use crate::Precision;

    #[test]
    fn lines_that_spread_too_thin_are_rejected() {
        let lines: Vec<String> = (0..1_000).map(|line| format!("m f{line}=1 {line}")).collect();
        let body = lines.join("\n");
        let options = ParseOptions::new(Precision::Nanosecond, 0);
        let memory_bytes_max = 1_000_000;
        let mut parser = Parser::new(
            Source::new(&body, options.string_bytes_max),
            &options,
            memory_bytes_max,
        );
        parser.read_body();
        let parsed = parser.finish();
        let table = &parsed.tables[0];
        let array_bytes: usize = table
            .columns
            .iter()
            .map(|column| column.array.get_buffer_memory_size())
            .sum();
        assert!(array_bytes <= memory_bytes_max, "{array_bytes}");
        assert!((200..400).contains(&table.row_count), "{}", table.row_count);
        assert_eq!(table.columns.len(), table.row_count + 1);
        assert_eq!(parsed.rejected_count, 1_000 - table.row_count);
        assert!(
            parsed.errors[0].message.contains("too much memory"),
            "{}",
            parsed.errors[0].message
        );
        assert_eq!(parsed.errors[0].line_number, table.row_count + 1);
    }

    #[test]
    fn a_line_with_very_many_fields_takes_linear_time() {
        let fields: Vec<String> = (0..50_000).map(|field| format!("f{field}=1")).collect();
        let body = format!("m {0} 1\nm {0} x\nm {0} 3\n", fields.join(","));
        let parsed = parse(&body, &ParseOptions::new(Precision::Nanosecond, 0));
        assert_eq!(
            (parsed.tables[0].row_count, parsed.tables[0].columns.len()),
            (2, 50_001)
        );
        assert_eq!(parsed.errors[0].line_number, 2);
    }
}
