//! Rows of Arrow tables as line protocol: what plugins write in bulk (`spec/engine.md` 0.26).
//!
//! Line protocol cannot hold everything that a table can: what would not read back as it was is refused, never changed.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::array::{StringViewArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use thiserror::Error;

use crate::source::{KEY_ESCAPES, MEASUREMENT_ESCAPES};

/// The name of the time, which no other column can have.
const TIME: &str = "time";
/// pandas gives an index without a name one that begins so.
const UNNAMED_INDEX_PREFIX: &str = "__index_level_";

/// Why a table cannot be written. The texts are what plugin authors see; rows are counted from 0.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TableLinesError {
    /// No field type holds such values.
    #[error("column '{column}' is of type {data_type}, which no field can hold: cast it, or leave it out")]
    NoField {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// Only text and integers can be tags.
    #[error("column '{column}' is of type {data_type}, and a tag is text or an integer: cast it")]
    NoTag {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The time's column holds something else.
    #[error(
        "column '{column}' is of type {data_type}, and a time is a timestamp, a date, or an integer of nanoseconds"
    )]
    NoTime {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The time's column does not exist. Without it, rows of one series would overwrite one another.
    #[error(
        "the table has no column '{0}': name the one that holds the times with time=, or pass time=None for the time of \
         the write"
    )]
    TimeIsMissing(String),
    /// A column that is to be a tag does not exist.
    #[error("the table has no column '{0}' that could be a tag")]
    TagIsMissing(String),
    /// The time's column is to be a tag too.
    #[error("column '{0}' cannot be both a tag and the time")]
    TimeIsTag(String),
    /// `time` is always the time of the row.
    #[error("a column 'time' can only hold the times of the rows: rename it, or leave it out")]
    OtherTime,
    /// Two columns have one name.
    #[error("the table has two columns '{0}'")]
    TwoColumns(String),
    /// Every row needs a field.
    #[error("the table has no column that could be a field: all are tags, the time, or empty")]
    NoFields,
    /// A row has no time.
    #[error("row {row} has no time: its '{column}' is null")]
    NullTime {
        /// The row.
        row: usize,
        /// The time's column.
        column: String,
    },
    /// Not a number, or infinite.
    #[error(
        "row {row}, column '{column}': {value} cannot be written: put a null in its place, or leave the row out"
    )]
    NotFinite {
        /// The row.
        row: usize,
        /// The column.
        column: String,
        /// The value.
        value: f64,
    },
    /// A name that line protocol cannot hold.
    #[error("{what} {text:?} cannot be written: {reason}")]
    Name {
        /// What has the name.
        what: &'static str,
        /// The name.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The value of a tag that line protocol cannot hold.
    #[error("row {row}, column '{column}': the tag {text:?} cannot be written: {reason}")]
    Tag {
        /// The row.
        row: usize,
        /// The column.
        column: String,
        /// The value.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value does not fit, such as a time before 1677 or after 2262.
    #[error("column '{column}': {error}")]
    Cast {
        /// The column.
        column: String,
        /// Arrow's text says which value.
        error: ArrowError,
    },
    /// The lines take too much memory.
    #[error("the table has more than {0} bytes as line protocol: write it in parts")]
    TooLarge(usize),
}

/// How a table becomes lines.
#[derive(Debug, Clone)]
pub struct TableOptions<'a> {
    /// The table that is written to.
    pub table: &'a str,
    /// The columns that are tags; `None` is those that are dictionaries of text, as tags are in answers to queries.
    pub tags: Option<&'a [String]>,
    /// The column of the times; `None` leaves them to the database.
    pub time: Option<&'a str>,
    /// The most bytes of lines.
    pub bytes_max: usize,
}

/// Renders the batches of one table. Null values are left out, and so are tags without text and rows without a value.
#[derive(Debug)]
pub struct TableLines {
    /// The table, escaped.
    measurement: Vec<u8>,
    /// For each column what it is for.
    columns: Vec<(String, Role)>,
    rows: usize,
    bytes_max: usize,
}

#[derive(Debug)]
enum Role {
    Tag,
    /// A field, of this type once it is cast.
    Field(DataType),
    Time,
    Ignored,
}

impl TableLines {
    /// Decides what each column is for.
    pub fn new(schema: &Schema, options: &TableOptions<'_>) -> Result<Self, TableLinesError> {
        let mut measurement = Vec::new();
        escape_name(
            "the table name",
            options.table,
            MEASUREMENT_ESCAPES,
            &mut measurement,
        )?;
        if options.table.starts_with(['#', '\t']) {
            return Err(TableLinesError::Name {
                what: "the table name",
                text: options.table.to_owned(),
                reason: "it begins with a character that begins no line",
            });
        }
        let has = |name: &str| schema.fields().iter().any(|field| field.name() == name);
        if let Some(time) = options.time.filter(|time| !has(time)) {
            return Err(TableLinesError::TimeIsMissing(time.to_owned()));
        }
        if let Some(tag) = options.tags.unwrap_or_default().iter().find(|tag| !has(tag)) {
            return Err(TableLinesError::TagIsMissing(tag.clone()));
        }
        let mut columns: Vec<(String, Role)> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            if columns.iter().any(|(known, _)| known == field.name()) {
                return Err(TableLinesError::TwoColumns(field.name().clone()));
            }
            let role = role(field.name(), field.data_type(), options)?;
            columns.push((field.name().clone(), role));
        }
        if !columns.iter().any(|(_, role)| matches!(role, Role::Field(_))) {
            return Err(TableLinesError::NoFields);
        }
        Ok(Self {
            measurement,
            columns,
            rows: 0,
            bytes_max: options.bytes_max,
        })
    }

    /// Appends the lines of a batch, each with a line end.
    pub fn append(&mut self, batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), TableLinesError> {
        let mut tags = Vec::new();
        let mut fields = Vec::new();
        let mut times = None;
        for ((name, role), array) in self.columns.iter().zip(batch.columns()) {
            match role {
                Role::Tag => tags.push(Tag::new(name, array)?),
                Role::Field(data_type) => fields.push(Field::new(name, data_type, array)?),
                Role::Time => times = Some((name, cast_time(name, array)?)),
                Role::Ignored => {}
            }
        }
        for row in 0..batch.num_rows() {
            let position = self.rows + row;
            let line_start = lines.len();
            lines.extend_from_slice(&self.measurement);
            for tag in &mut tags {
                tag.append(row, position, lines)?;
            }
            let tags_end = lines.len();
            for field in &fields {
                let separator = if lines.len() == tags_end { b' ' } else { b',' };
                field.append(row, position, separator, lines)?;
            }
            if lines.len() == tags_end {
                lines.truncate(line_start);
                continue;
            }
            if let Some((column, times)) = &times {
                if times.is_null(row) {
                    return Err(TableLinesError::NullTime {
                        row: position,
                        column: (*column).clone(),
                    });
                }
                append_text(lines, format_args!(" {}", times.value(row)));
            }
            lines.push(b'\n');
            if lines.len() > self.bytes_max {
                return Err(TableLinesError::TooLarge(self.bytes_max));
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }
}

/// What a column is for.
fn role(name: &str, data_type: &DataType, options: &TableOptions<'_>) -> Result<Role, TableLinesError> {
    let is_tag = match options.tags {
        Some(tags) => tags.iter().any(|tag| tag == name),
        None => is_dictionary_of_text(data_type),
    };
    let (column, data_type) = (name.to_owned(), data_type.clone());
    if options.time == Some(name) {
        if is_tag && options.tags.is_some() {
            return Err(TableLinesError::TimeIsTag(column));
        }
        return match plain(&data_type) {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Ok(Role::Time),
            other if other.is_integer() => Ok(Role::Time),
            _ => Err(TableLinesError::NoTime { column, data_type }),
        };
    }
    if name == TIME {
        return Err(TableLinesError::OtherTime);
    }
    if is_tag {
        let plain = plain(&data_type);
        return if is_text(plain) || plain.is_integer() {
            Ok(Role::Tag)
        } else {
            Err(TableLinesError::NoTag { column, data_type })
        };
    }
    if name.starts_with(UNNAMED_INDEX_PREFIX) {
        return Ok(Role::Ignored);
    }
    Ok(match plain(&data_type) {
        DataType::Null => Role::Ignored,
        DataType::Boolean => Role::Field(DataType::Boolean),
        DataType::Timestamp(..) => Role::Field(DataType::Int64),
        plain if plain.is_signed_integer() => Role::Field(DataType::Int64),
        plain if plain.is_unsigned_integer() => Role::Field(DataType::UInt64),
        plain if plain.is_floating() => Role::Field(DataType::Float64),
        plain if is_text(plain) => Role::Field(DataType::Utf8View),
        _ => return Err(TableLinesError::NoField { column, data_type }),
    })
}

/// The type of the values, however they are laid out.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_dictionary_of_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, values) if is_text(values))
}

/// The values as another type. One that does not fit is an error.
fn cast(column: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, TableLinesError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|error| TableLinesError::Cast {
        column: column.to_owned(),
        error,
    })
}

/// Timestamps, dates and integers as nanoseconds since the epoch.
fn cast_time(column: &str, array: &ArrayRef) -> Result<Int64Array, TableLinesError> {
    let unpacked = cast(column, array, plain(array.data_type()))?;
    let nanoseconds = match unpacked.data_type() {
        DataType::Timestamp(_, zone) => cast(
            column,
            &unpacked,
            &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        )?,
        DataType::Date32 | DataType::Date64 => cast(
            column,
            &unpacked,
            &DataType::Timestamp(TimeUnit::Nanosecond, None),
        )?,
        _ => unpacked,
    };
    let integers = cast(column, &nanoseconds, &DataType::Int64)?;
    Ok(integers.as_primitive::<Int64Type>().clone())
}

/// A column of tags.
struct Tag<'a> {
    name: &'a str,
    /// `,key=`
    prefix: Vec<u8>,
    values: TagValues,
}

enum TagValues {
    Text(StringViewArray),
    /// Each value is rendered once, when it is first met.
    Dictionary {
        keys: Vec<usize>,
        nulls: Option<NullBuffer>,
        values: StringViewArray,
        rendered: Vec<Option<Vec<u8>>>,
    },
}

impl<'a> Tag<'a> {
    fn new(name: &'a str, array: &ArrayRef) -> Result<Self, TableLinesError> {
        let mut prefix = vec![b','];
        escape_name("the name of a tag", name, KEY_ESCAPES, &mut prefix)?;
        prefix.push(b'=');
        let text = |array: &ArrayRef| -> Result<StringViewArray, TableLinesError> {
            Ok(cast(name, array, &DataType::Utf8View)?.as_string_view().clone())
        };
        let values = match array.as_any_dictionary_opt() {
            Some(dictionary) if !dictionary.values().is_empty() => {
                let values = text(dictionary.values())?;
                TagValues::Dictionary {
                    keys: dictionary.normalized_keys(),
                    nulls: array.logical_nulls(),
                    rendered: vec![None; values.len()],
                    values,
                }
            }
            _ => TagValues::Text(text(array)?),
        };
        Ok(Self { name, prefix, values })
    }

    fn append(&mut self, row: usize, position: usize, lines: &mut Vec<u8>) -> Result<(), TableLinesError> {
        match &mut self.values {
            TagValues::Text(values) => {
                if values.is_null(row) {
                    return Ok(());
                }
                render_tag(self.name, &self.prefix, values.value(row), position, lines)
            }
            TagValues::Dictionary {
                keys,
                nulls,
                values,
                rendered,
            } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Ok(());
                }
                let key = keys[row];
                if rendered[key].is_none() {
                    let mut tag = Vec::new();
                    render_tag(self.name, &self.prefix, values.value(key), position, &mut tag)?;
                    rendered[key] = Some(tag);
                }
                lines.extend_from_slice(rendered[key].as_deref().unwrap_or_default());
                Ok(())
            }
        }
    }
}

fn render_tag(
    name: &str,
    prefix: &[u8],
    text: &str,
    row: usize,
    lines: &mut Vec<u8>,
) -> Result<(), TableLinesError> {
    if text.is_empty() {
        return Ok(());
    }
    lines.extend_from_slice(prefix);
    escape(text, KEY_ESCAPES, lines).map_err(|reason| TableLinesError::Tag {
        row,
        column: name.to_owned(),
        text: text.to_owned(),
        reason,
    })
}

/// A column of fields.
struct Field<'a> {
    name: &'a str,
    /// `key=`
    prefix: Vec<u8>,
    values: FieldValues,
}

enum FieldValues {
    Integer(Int64Array),
    UInteger(UInt64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
    Text(StringViewArray),
}

impl<'a> Field<'a> {
    fn new(name: &'a str, data_type: &DataType, array: &ArrayRef) -> Result<Self, TableLinesError> {
        let mut prefix = Vec::new();
        escape_name("the name of a field", name, KEY_ESCAPES, &mut prefix)?;
        prefix.push(b'=');
        let values = match data_type {
            DataType::Int64 if matches!(plain(array.data_type()), DataType::Timestamp(..)) => {
                FieldValues::Integer(cast_time(name, array)?)
            }
            DataType::Int64 => {
                FieldValues::Integer(cast(name, array, data_type)?.as_primitive::<Int64Type>().clone())
            }
            DataType::UInt64 => {
                FieldValues::UInteger(cast(name, array, data_type)?.as_primitive::<UInt64Type>().clone())
            }
            DataType::Float64 => FieldValues::Float(
                cast(name, array, data_type)?
                    .as_primitive::<Float64Type>()
                    .clone(),
            ),
            DataType::Boolean => FieldValues::Boolean(cast(name, array, data_type)?.as_boolean().clone()),
            _ => FieldValues::Text(cast(name, array, &DataType::Utf8View)?.as_string_view().clone()),
        };
        Ok(Self { name, prefix, values })
    }

    fn is_null(&self, row: usize) -> bool {
        match &self.values {
            FieldValues::Integer(values) => values.is_null(row),
            FieldValues::UInteger(values) => values.is_null(row),
            FieldValues::Float(values) => values.is_null(row),
            FieldValues::Boolean(values) => values.is_null(row),
            FieldValues::Text(values) => values.is_null(row),
        }
    }

    fn append(
        &self,
        row: usize,
        position: usize,
        separator: u8,
        lines: &mut Vec<u8>,
    ) -> Result<(), TableLinesError> {
        if self.is_null(row) {
            return Ok(());
        }
        lines.push(separator);
        lines.extend_from_slice(&self.prefix);
        match &self.values {
            FieldValues::Integer(values) => append_text(lines, format_args!("{}i", values.value(row))),
            FieldValues::UInteger(values) => append_text(lines, format_args!("{}u", values.value(row))),
            FieldValues::Float(values) => {
                let value = values.value(row);
                if !value.is_finite() {
                    return Err(TableLinesError::NotFinite {
                        row: position,
                        column: self.name.to_owned(),
                        value,
                    });
                }
                // The shortest text that reads back as the same number.
                append_text(lines, format_args!("{value:?}"));
            }
            FieldValues::Boolean(values) => lines.push(if values.value(row) { b't' } else { b'f' }),
            FieldValues::Text(values) => {
                lines.push(b'"');
                for &byte in values.value(row).as_bytes() {
                    if matches!(byte, b'"' | b'\\') {
                        lines.push(b'\\');
                    }
                    lines.push(byte);
                }
                lines.push(b'"');
            }
        }
        Ok(())
    }
}

fn append_text(lines: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    lines.write_fmt(text).expect("a vector takes all bytes");
}

/// Appends a name, escaped.
fn escape_name(
    what: &'static str,
    text: &str,
    escapes: &[u8],
    lines: &mut Vec<u8>,
) -> Result<(), TableLinesError> {
    let escaped = if text.is_empty() {
        Err("it is empty")
    } else {
        escape(text, escapes, lines)
    };
    escaped.map_err(|reason| TableLinesError::Name {
        what,
        text: text.to_owned(),
        reason,
    })
}

/// Appends a text in which a backslash escapes each of `escapes`. Before anything else a backslash is an ordinary character, and a
/// pair of them stays a pair: so one that stands before a character that must be escaped cannot be told from an escape.
fn escape(text: &str, escapes: &[u8], lines: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut is_after_odd_backslashes = false;
    for &byte in text.as_bytes() {
        if byte == b'\n' {
            return Err("it has a line break");
        }
        if escapes.contains(&byte) {
            if is_after_odd_backslashes {
                return Err("a backslash stands before a comma, a space or an equals sign");
            }
            lines.push(b'\\');
        }
        lines.push(byte);
        is_after_odd_backslashes = byte == b'\\' && !is_after_odd_backslashes;
    }
    if text.ends_with('\\') {
        return Err("it ends with a backslash");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, DictionaryArray, Float16Array, Float32Array, Int8Array, Int32Array,
        LargeStringArray, NullArray, RunArray, StringArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array,
    };
    use arrow::datatypes::{ArrowPrimitiveType, Float16Type, Int8Type, Int32Type};
    use proptest::prelude::*;

    use super::*;
    use crate::{ColumnType, ParseOptions, Precision, parse};

    const OPTIONS: TableOptions<'_> = TableOptions {
        table: "m",
        tags: None,
        time: Some("time"),
        bytes_max: 1 << 20,
    };

    fn array(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .expect("columns of one length")
    }

    fn render(batch: &RecordBatch, options: &TableOptions<'_>) -> Result<String, String> {
        let mut lines = Vec::new();
        let mut table = TableLines::new(batch.schema_ref(), options).map_err(|error| error.to_string())?;
        table
            .append(batch, &mut lines)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8(lines).expect("texts are UTF-8"))
    }

    #[track_caller]
    fn check(columns: Vec<(&str, ArrayRef)>, options: &TableOptions<'_>, expected: &str) {
        assert_eq!(render(&batch(columns), options).as_deref(), Ok(expected));
    }

    #[track_caller]
    fn check_refused(columns: Vec<(&str, ArrayRef)>, options: &TableOptions<'_>, expected: &str) {
        assert_eq!(render(&batch(columns), options), Err(expected.to_owned()));
    }

    /// A column of one field, without times.
    #[track_caller]
    fn check_field(values: ArrayRef, expected: &str) {
        let options = TableOptions {
            time: None,
            ..OPTIONS
        };
        check(vec![("f", values)], &options, expected);
    }

    #[test]
    fn every_kind_of_field() {
        check_field(array(Int8Array::from(vec![Some(-1), None])), "m f=-1i\n");
        check_field(
            array(Int64Array::from(vec![i64::MIN])),
            "m f=-9223372036854775808i\n",
        );
        check_field(array(UInt8Array::from(vec![3])), "m f=3u\n");
        check_field(array(UInt16Array::from(vec![4])), "m f=4u\n");
        check_field(
            array(UInt64Array::from(vec![u64::MAX])),
            "m f=18446744073709551615u\n",
        );
        let half = <Float16Type as ArrowPrimitiveType>::Native::from_f32(1.5);
        check_field(array(Float16Array::from(vec![half])), "m f=1.5\n");
        check_field(array(Float32Array::from(vec![0.5])), "m f=0.5\n");
        check_field(
            array(Float64Array::from(vec![2.0, -0.0, 1e300, 1e-7])),
            "m f=2.0\nm f=-0.0\nm f=1e300\nm f=1e-7\n",
        );
        check_field(array(BooleanArray::from(vec![true, false])), "m f=t\nm f=f\n");
        let text = "a \"b\" \\ c\nd";
        check_field(
            array(StringArray::from(vec![text])),
            "m f=\"a \\\"b\\\" \\\\ c\nd\"\n",
        );
        check_field(array(LargeStringArray::from(vec!["x"])), "m f=\"x\"\n");
        check_field(array(StringViewArray::from(vec![""])), "m f=\"\"\n");
        check_field(array(TimestampMillisecondArray::from(vec![5])), "m f=5000000i\n");
        let numbers = DictionaryArray::<Int8Type>::new(
            Int8Array::from(vec![Some(0), None, Some(0)]),
            array(Int64Array::from(vec![7])),
        );
        check_field(array(numbers), "m f=7i\nm f=7i\n");
        let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2]), &StringArray::from(vec!["r"]))
            .expect("ends fit the values");
        check_field(array(runs), "m f=\"r\"\nm f=\"r\"\n");
    }

    #[test]
    fn dictionaries_of_text_are_tags_and_empty_values_are_left_out() {
        let host: DictionaryArray<Int32Type> = vec![Some("a b"), None, Some(""), Some("a b")]
            .into_iter()
            .collect();
        let columns = vec![
            (
                "x=y",
                array(Int64Array::from(vec![Some(1), Some(2), Some(3), None])),
            ),
            ("host", array(host)),
            ("none", array(NullArray::new(4))),
            ("__index_level_0__", array(Int64Array::from(vec![5, 6, 7, 8]))),
            ("time", array(TimestampNanosecondArray::from(vec![1, 2, -3, 4]))),
        ];
        let expected = "m\\ n\\,o,host=a\\ b x\\=y=1i 1\nm\\ n\\,o x\\=y=2i 2\nm\\ n\\,o x\\=y=3i -3\n";
        let options = TableOptions {
            table: "m n,o",
            ..OPTIONS
        };
        check(columns, &options, expected);
    }

    #[test]
    fn named_tags_are_the_tags() {
        let kind: DictionaryArray<Int32Type> = vec![Some("k")].into_iter().collect();
        let columns = || {
            vec![
                ("host", array(StringArray::from(vec!["a"]))),
                ("rack", array(Int32Array::from(vec![7]))),
                ("kind", array(kind.clone())),
                ("when", array(Date32Array::from(vec![1]))),
            ]
        };
        let tags = ["host".to_owned(), "rack".to_owned()];
        let options = TableOptions {
            tags: Some(&tags),
            time: Some("when"),
            ..OPTIONS
        };
        check(columns(), &options, "m,host=a,rack=7 kind=\"k\" 86400000000000\n");
        let options = TableOptions {
            tags: Some(&[]),
            ..options
        };
        check(
            columns(),
            &options,
            "m host=\"a\",rack=7i,kind=\"k\" 86400000000000\n",
        );
    }

    #[test]
    fn times_of_every_unit_are_nanoseconds() {
        let times: [ArrayRef; 6] = [
            array(TimestampSecondArray::from(vec![2])),
            array(TimestampMillisecondArray::from(vec![2_000]).with_timezone("Europe/Berlin")),
            array(TimestampMicrosecondArray::from(vec![2_000_000])),
            array(TimestampNanosecondArray::from(vec![2_000_000_000])),
            array(Int64Array::from(vec![2_000_000_000])),
            array(UInt64Array::from(vec![2_000_000_000])),
        ];
        for time in times {
            let columns = vec![("f", array(Int64Array::from(vec![1]))), ("time", time)];
            check(columns, &OPTIONS, "m f=1i 2000000000\n");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let one = || array(Int64Array::from(vec![1]));
        let text = |text: &str| array(StringArray::from(vec![text]));
        let refused = check_refused;
        refused(
            vec![("f", one())],
            &OPTIONS,
            "the table has no column 'time': name the one that holds the times with time=, or pass time=None for the time of \
             the write",
        );
        let untimed = TableOptions {
            time: None,
            ..OPTIONS
        };
        refused(
            vec![("f", one()), ("time", one())],
            &untimed,
            "a column 'time' can only hold the times of the rows: rename it, or leave it out",
        );
        refused(
            vec![("f", array(Float64Array::from(vec![f64::NAN])))],
            &untimed,
            "row 0, column 'f': NaN cannot be written: put a null in its place, or leave the row out",
        );
        refused(
            vec![("f", array(Float32Array::from(vec![0.0, f32::NEG_INFINITY])))],
            &untimed,
            "row 1, column 'f': -inf cannot be written: put a null in its place, or leave the row out",
        );
        refused(
            vec![("f", array(Decimal128Array::from(vec![1])))],
            &untimed,
            "column 'f' is of type Decimal128(38, 10), which no field can hold: cast it, or leave it out",
        );
        refused(
            vec![("f", one()), ("time", text("now"))],
            &OPTIONS,
            "column 'time' is of type Utf8, and a time is a timestamp, a date, or an integer of nanoseconds",
        );
        refused(
            vec![("f", one()), ("time", array(Int64Array::from(vec![None])))],
            &OPTIONS,
            "row 0 has no time: its 'time' is null",
        );
        refused(
            vec![("f", one()), ("f", one())],
            &untimed,
            "the table has two columns 'f'",
        );
        let error = render(
            &batch(vec![
                ("f", one()),
                ("time", array(TimestampSecondArray::from(vec![i64::MAX]))),
            ]),
            &OPTIONS,
        )
        .expect_err("a time that does not fit");
        assert!(
            error.starts_with("column 'time': ") && error.contains("9223372036854775807"),
            "{error}"
        );

        let tags = |name: &'static str| [name.to_owned()];
        let tagged = |columns, tag: &'static str, expected: &str| {
            let tags = tags(tag);
            let options = TableOptions {
                tags: Some(&tags),
                ..untimed.clone()
            };
            check_refused(columns, &options, expected);
        };
        tagged(
            vec![("f", one())],
            "host",
            "the table has no column 'host' that could be a tag",
        );
        tagged(
            vec![("f", one())],
            "f",
            "the table has no column that could be a field: all are tags, the time, or empty",
        );
        tagged(
            vec![("f", one()), ("x", array(Float64Array::from(vec![1.0])))],
            "x",
            "column 'x' is of type Float64, and a tag is text or an integer: cast it",
        );
        for (value, reason) in [
            ("a\nb", "it has a line break"),
            ("a\\", "it ends with a backslash"),
            ("a\\\\", "it ends with a backslash"),
            (
                "a\\ b",
                "a backslash stands before a comma, a space or an equals sign",
            ),
        ] {
            let expected = format!("row 0, column 'h': the tag {value:?} cannot be written: {reason}");
            tagged(vec![("f", one()), ("h", text(value))], "h", &expected);
        }
        for (table, reason) in [
            ("", "it is empty"),
            ("a\n", "it has a line break"),
            ("#a", "it begins with a character that begins no line"),
        ] {
            let expected = format!("the table name {table:?} cannot be written: {reason}");
            let options = TableOptions {
                table,
                ..untimed.clone()
            };
            refused(vec![("f", one())], &options, &expected);
        }
        let options = TableOptions {
            bytes_max: 10,
            ..untimed
        };
        refused(
            vec![("f", array(Int64Array::from(vec![1, 2])))],
            &options,
            "the table has more than 10 bytes as line protocol: write it in parts",
        );
    }

    #[test]
    fn a_value_of_a_dictionary_that_no_row_has_is_not_looked_at() {
        let host = DictionaryArray::<Int32Type>::new(
            Int32Array::from(vec![1]),
            array(StringArray::from(vec!["a\nb", "c"])),
        );
        let columns = vec![("host", array(host)), ("f", array(Int64Array::from(vec![1])))];
        let options = TableOptions {
            time: None,
            ..OPTIONS
        };
        check(columns, &options, "m,host=c f=1i\n");
    }

    proptest! {
        /// What is written is read back as it was, or refused.
        #[test]
        fn lines_read_back(
            table in "[a#\\\\,= \t\"é]{1,6}",
            key in "[b\\\\,= \t\"\r]{1,6}",
            tag in "[ab\\\\,= \t\"\r\n]{1,8}",
            text in "[ab\\\\,= \t\"\r\n]{0,8}",
            number in any::<f64>(),
            time in any::<i64>(),
        ) {
            prop_assume!(key != "text" && key != "number");
            let host: DictionaryArray<Int32Type> = vec![Some(tag.as_str())].into_iter().collect();
            let batch = batch(vec![
                (&key, array(host)),
                ("text", array(StringArray::from(vec![text.as_str()]))),
                ("number", array(Float64Array::from(vec![number]))),
                ("time", array(TimestampNanosecondArray::from(vec![time]))),
            ]);
            let options = TableOptions { table: &table, ..OPTIONS };
            let Ok(lines) = render(&batch, &options) else { return Ok(()) };
            let parsed = parse(&lines, &ParseOptions::new(Precision::Nanosecond, 0));
            prop_assert!(parsed.errors.is_empty(), "{lines:?}: {:?}", parsed.errors);
            prop_assert_eq!(parsed.tables.len(), 1);
            prop_assert_eq!(&parsed.tables[0].name, &table);
            for column in &parsed.tables[0].columns {
                let array = &column.array;
                match column.column_type {
                    ColumnType::Tag => {
                        prop_assert_eq!(&column.name, &key);
                        let values = array.as_any_dictionary().values().as_string::<i32>().clone();
                        prop_assert_eq!(values.value(0), tag.as_str());
                    }
                    ColumnType::String => {
                        prop_assert_eq!(array.as_string::<i32>().value(0), text.as_str());
                    }
                    ColumnType::Float => {
                        let read = array.as_primitive::<Float64Type>().value(0);
                        prop_assert_eq!(read.to_bits(), number.to_bits());
                    }
                    ColumnType::Time => {
                        let read = cast_time("time", array).expect("a time");
                        prop_assert_eq!(read.value(0), time);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
