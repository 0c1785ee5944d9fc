//! One field column while it is being filled.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, StringArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use crate::ColumnType;
use crate::key::Key;
use crate::source::{STRING_ESCAPES, Source, unescape_into};
use crate::value::Value;

/// Whether a value could be added to a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Push {
    Done,
    /// The row has a value already.
    Duplicate,
    /// The value is of another type, or the strings are at the limit of the column.
    Refused,
}

/// The values of one field name and type. Rows without a value are noticed when the next value comes.
#[derive(Debug)]
pub(crate) struct FieldColumn<'a> {
    /// The key as it was spelled when it was last looked up.
    pub(crate) key: Key<'a>,
    /// The column's name, an index into the table's names.
    pub(crate) name: u32,
    /// The column whose value followed this one's when that was last looked up.
    pub(crate) next: u32,
    /// Whether another column has the same name, so that a line may use it only in one of the two.
    pub(crate) contended: bool,
    values: Values,
    /// Runs of rows without a value: first row and count.
    gaps: Vec<(u32, u32)>,
}

#[derive(Debug)]
enum Values {
    Float(Vec<f64>),
    Integer(Vec<i64>),
    UInteger(Vec<u64>),
    Boolean(Vec<bool>),
    /// Where each string ends in `text`.
    String {
        ends: Vec<i32>,
        text: String,
    },
}

impl<'a> FieldColumn<'a> {
    pub(crate) fn new(key: Key<'a>, name: u32, next: u32, value: Value) -> Self {
        let values = match value {
            Value::Float(_) => Values::Float(Vec::new()),
            Value::Integer(_) => Values::Integer(Vec::new()),
            Value::UInteger(_) => Values::UInteger(Vec::new()),
            Value::Boolean(_) => Values::Boolean(Vec::new()),
            Value::String { .. } => Values::String {
                ends: Vec::new(),
                text: String::new(),
            },
        };
        Self {
            key,
            name,
            next,
            contended: false,
            values,
            gaps: Vec::new(),
        }
    }

    pub(crate) fn column_type(&self) -> ColumnType {
        match self.values {
            Values::Float(_) => ColumnType::Float,
            Values::Integer(_) => ColumnType::Integer,
            Values::UInteger(_) => ColumnType::UInteger,
            Values::Boolean(_) => ColumnType::Boolean,
            Values::String { .. } => ColumnType::String,
        }
    }

    /// Rows up to and including the last one with a value.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::UInteger(values) => values.len(),
            Values::Boolean(values) => values.len(),
            Values::String { ends, .. } => ends.len(),
        }
    }

    /// Sets the value of `row`, which is the last row or the one behind it.
    #[inline]
    pub(crate) fn push(&mut self, row: usize, value: Value, source: &Source<'_>) -> Push {
        match (&mut self.values, value) {
            (Values::Float(values), Value::Float(value)) if values.len() == row => values.push(value),
            (Values::Integer(values), Value::Integer(value)) if values.len() == row => values.push(value),
            (Values::UInteger(values), Value::UInteger(value)) if values.len() == row => values.push(value),
            (Values::Boolean(values), Value::Boolean(value)) if values.len() == row => values.push(value),
            _ => return self.push_slowly(row, value, source),
        }
        Push::Done
    }

    #[inline(never)]
    fn push_slowly(&mut self, row: usize, value: Value, source: &Source<'_>) -> Push {
        if self.column_type() != value.column_type() {
            return Push::Refused;
        }
        let len = self.len();
        if len > row {
            return Push::Duplicate;
        }
        if len < row {
            self.gaps.push((len as u32, (row - len) as u32));
            self.pad(row);
        }
        match (&mut self.values, value) {
            (Values::Float(values), Value::Float(value)) => values.push(value),
            (Values::Integer(values), Value::Integer(value)) => values.push(value),
            (Values::UInteger(values), Value::UInteger(value)) => values.push(value),
            (Values::Boolean(values), Value::Boolean(value)) => values.push(value),
            (Values::String { ends, text }, Value::String { inner, escaped, .. }) => {
                let before = text.len();
                if escaped {
                    unescape_into(text, source.slice(inner), STRING_ESCAPES);
                } else {
                    text.push_str(source.slice(inner));
                }
                let Ok(end) = i32::try_from(text.len()) else {
                    text.truncate(before);
                    return Push::Refused;
                };
                ends.push(end);
            }
            _ => return Push::Refused,
        }
        Push::Done
    }

    /// Adds rows without a value up to `row_count`.
    fn pad(&mut self, row_count: usize) {
        match &mut self.values {
            Values::Float(values) => values.resize(row_count, 0.0),
            Values::Integer(values) => values.resize(row_count, 0),
            Values::UInteger(values) => values.resize(row_count, 0),
            Values::Boolean(values) => values.resize(row_count, false),
            Values::String { ends, .. } => ends.resize(row_count, ends.last().copied().unwrap_or(0)),
        }
    }

    /// Forgets the value of `row` if it has one.
    pub(crate) fn truncate(&mut self, row: usize) {
        match &mut self.values {
            Values::Float(values) => values.truncate(row),
            Values::Integer(values) => values.truncate(row),
            Values::UInteger(values) => values.truncate(row),
            Values::Boolean(values) => values.truncate(row),
            Values::String { ends, text } => {
                ends.truncate(row);
                text.truncate(ends.last().map_or(0, |&end| end as usize));
            }
        }
    }

    /// The column of `row_count` rows as an array.
    pub(crate) fn finish(mut self, row_count: usize) -> ArrayRef {
        let len = self.len();
        if len < row_count {
            self.gaps.push((len as u32, (row_count - len) as u32));
            self.pad(row_count);
        }
        let nulls = self.nulls(row_count);
        match self.values {
            Values::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Integer(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::UInteger(values) => Arc::new(UInt64Array::new(values.into(), nulls)),
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::String { mut ends, text } => {
                ends.insert(0, 0);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(StringArray::new(
                    offsets,
                    Buffer::from_vec(text.into_bytes()),
                    nulls,
                ))
            }
        }
    }

    fn nulls(&self, row_count: usize) -> Option<NullBuffer> {
        if self.gaps.is_empty() {
            return None;
        }
        let mut validity = BooleanBufferBuilder::new(row_count);
        for &(first_row, count) in &self.gaps {
            validity.append_n(first_row as usize - validity.len(), true);
            validity.append_n(count as usize, false);
        }
        validity.append_n(row_count - validity.len(), true);
        Some(NullBuffer::new(validity.finish()))
    }
}
