//! The schema of a journal, and rows in it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;

use crate::JournalError;

/// The schema of a journal: its first column is a time, without nulls.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    schema: SchemaRef,
}

impl Layout {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self, JournalError> {
        let is_time = |field: &Field| {
            matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) && !field.is_nullable()
        };
        if schema.fields().first().is_some_and(|field| is_time(field)) {
            return Ok(Self { schema });
        }
        let reason = "the first column must be a timestamp in nanoseconds and not nullable".to_owned();
        Err(JournalError::Schema { reason })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The time, and then the columns at these places.
    pub(crate) fn select(&self, columns: &[usize]) -> Self {
        let places = std::iter::once(0).chain(columns.iter().copied());
        let fields = places.filter_map(|place| self.schema.fields().get(place).cloned());
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Self {
            schema: Arc::new(schema),
        }
    }

    /// The rows in this schema. Columns are found by name; one that is missing, as in the objects of an older version, is
    /// null where it may be.
    pub(crate) fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().map(|field| column(batch, field));
        RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_, _>>()?)
    }
}

fn column(batch: &RecordBatch, field: &Field) -> Result<ArrayRef, ArrowError> {
    match batch.column_by_name(field.name()) {
        Some(column) => Ok(column.clone()),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
        None => Err(ArrowError::SchemaError(format!("no column '{}'", field.name()))),
    }
}

/// The times of rows in a journal's schema.
pub(crate) fn times(batch: &RecordBatch) -> &TimestampNanosecondArray {
    batch.column(0).as_primitive::<TimestampNanosecondType>()
}

/// The oldest and the newest time of these rows. None: there are no rows.
pub(crate) fn time_range(batches: &[RecordBatch]) -> Option<RangeInclusive<i64>> {
    let all = || batches.iter().flat_map(|batch| times(batch).values());
    Some(*all().min()?..=*all().max()?)
}

/// The rows whose time is in the range.
pub(crate) fn within(batch: RecordBatch, range: &RangeInclusive<i64>) -> RecordBatch {
    let times = times(&batch).values();
    if times.iter().all(|time| range.contains(time)) {
        return batch;
    }
    let mask: BooleanArray = times.iter().map(|time| Some(range.contains(time))).collect();
    select(&batch, &mask)
}

/// The rows at which the mask, which is as long as the batch, is true.
pub(crate) fn select(batch: &RecordBatch, mask: &BooleanArray) -> RecordBatch {
    filter_record_batch(batch, mask).expect("a mask as long as the batch, of columns that were accepted")
}

/// The size of the rows in memory; that of several batches is the sum of theirs, however they are cut.
pub(crate) fn size_bytes(batch: &RecordBatch) -> usize {
    let sizes = batch.columns().iter().map(|column| {
        let exact = column.to_data().get_slice_memory_size();
        exact.unwrap_or_else(|_| column.get_array_memory_size())
    });
    sizes.sum()
}

pub(crate) fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn time_field() -> Field {
        Field::new(
            "event_time",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            false,
        )
    }

    fn layout(fields: Vec<Field>) -> Result<Layout, JournalError> {
        Layout::new(Arc::new(Schema::new(fields)))
    }

    #[test]
    fn the_first_column_is_a_time() {
        assert!(layout(vec![time_field()]).is_ok());
        let number = || Field::new("id", DataType::Int64, false);
        for fields in [
            vec![],
            vec![number(), time_field()],
            vec![time_field().with_nullable(true)],
        ] {
            let refused = layout(fields).unwrap_err().to_string();
            assert!(refused.contains("first column"), "{refused}");
        }
    }

    #[test]
    fn rows_of_another_version_fit_by_name() {
        let ids = Field::new("id", DataType::Int64, false);
        let texts = Field::new("text", DataType::Utf8, true);
        let old = layout(vec![time_field(), texts.clone(), ids.clone()]).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(vec![1, 2])),
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(Int64Array::from(vec![7, 8])),
        ];
        let batch = RecordBatch::try_new(old.schema().clone(), columns).unwrap();

        let new = layout(vec![time_field(), ids, Field::new("host", DataType::Utf8, true)]).unwrap();
        let fitted = new.fit(&batch).unwrap();
        assert_eq!(fitted.schema(), *new.schema());
        assert_eq!(fitted.column(1).as_ref(), batch.column(2).as_ref());
        assert_eq!(fitted.column(2).null_count(), 2);

        let strict = layout(vec![time_field(), Field::new("host", DataType::Utf8, false)]).unwrap();
        assert!(strict.fit(&batch).is_err());
        let retyped = layout(vec![time_field(), Field::new("id", DataType::Utf8, true)]).unwrap();
        assert!(retyped.fit(&batch).is_err());
    }

    #[test]
    fn sizes_add_up_however_rows_are_cut() {
        let schema = layout(vec![time_field(), Field::new("text", DataType::Utf8, true)]).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(0..1000)),
            Arc::new((0..1000).map(|n| Some("x".repeat(n))).collect::<StringArray>()),
        ];
        let batch = RecordBatch::try_new(schema.schema().clone(), columns).unwrap();
        let halves = size_bytes(&batch.slice(0, 500)) + size_bytes(&batch.slice(500, 500));
        let whole = size_bytes(&batch);
        assert!(
            whole > 999 * 1000 / 2 && whole.abs_diff(halves) < 100,
            "{whole} {halves}"
        );
    }
}
