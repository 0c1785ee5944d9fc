//! Several batches of one table as one, rows in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray, StringBuilder, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, hash_map::Entry};
use tidemill_catalog::ColumnId;

use crate::StoredBatch;
use crate::buffer::batch::memory_size;

/// One batch of all rows in the given order, with every column that one of them has. At least one batch must be given.
///
/// # Errors
/// When two batches disagree about the type of a column, or strings grow beyond what 32 bits address.
pub(crate) fn merge(batches: &[Arc<StoredBatch>]) -> Result<StoredBatch, ArrowError> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        return Err(ArrowError::InvalidArgumentError("no batches to merge".to_owned()));
    };
    let types: BTreeMap<ColumnId, &DataType> = batches
        .iter()
        .flat_map(|batch| &batch.columns)
        .map(|(id, array)| (*id, array.data_type()))
        .collect();
    let mut columns = Vec::with_capacity(types.len());
    for (id, data_type) in types {
        let parts: Vec<ArrayRef> = batches
            .iter()
            .map(|batch| match batch.column(id) {
                Some(array) => Arc::clone(array),
                None => new_null_array(data_type, batch.row_count),
            })
            .collect();
        columns.push((id, concat_column(&parts, data_type)?));
    }
    let byte_size = memory_size(&columns);
    Ok(StoredBatch {
        lsn_first: first.lsn_first,
        lsn_last: last.lsn_last,
        lsn_runs: batches
            .iter()
            .flat_map(|batch| batch.lsn_runs.iter().copied())
            .collect(),
        columns,
        row_count: batches.iter().map(|batch| batch.row_count).sum(),
        time_column: first.time_column,
        time_min: batches
            .iter()
            .map(|batch| batch.time_min)
            .min()
            .unwrap_or(first.time_min),
        time_max: batches
            .iter()
            .map(|batch| batch.time_max)
            .max()
            .unwrap_or(first.time_max),
        byte_size,
    })
}

fn concat_column(parts: &[ArrayRef], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if parts.iter().any(|part| part.data_type() != data_type) {
        let message = format!("a column of {data_type} has another type in one batch");
        return Err(ArrowError::SchemaError(message));
    }
    if let DataType::Dictionary(key_type, value_type) = data_type
        && **key_type == DataType::Int32
        && **value_type == DataType::Utf8
    {
        let parts: Vec<&DictionaryArray<Int32Type>> = parts.iter().map(AsArray::as_dictionary).collect();
        return concat_dictionaries(&parts);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts)
}

/// Keys over one dictionary that holds each value once, in order of first appearance.
fn concat_dictionaries(parts: &[&DictionaryArray<Int32Type>]) -> Result<ArrayRef, ArrowError> {
    let mut values = DistinctValues::default();
    let mut keys: Vec<i32> = Vec::with_capacity(parts.iter().map(Array::len).sum());
    for part in parts {
        let new_keys = values.add(part.values().as_string::<i32>())?;
        if new_keys.is_empty() {
            keys.resize(keys.len() + part.len(), 0);
        } else {
            // A key under a null may be anything.
            let new_key = |key: &i32| new_keys.get(*key as usize).copied().unwrap_or(0);
            keys.extend(part.keys().values().iter().map(new_key));
        }
    }
    let nulls = concat_nulls(parts, keys.len());
    let values = values.finish();
    Ok(Arc::new(DictionaryArray::try_new(
        Int32Array::new(keys.into(), nulls),
        Arc::new(values),
    )?))
}

/// Which rows are null, by key or by value: a dictionary made here has no null values.
fn concat_nulls(parts: &[&DictionaryArray<Int32Type>], row_count: usize) -> Option<NullBuffer> {
    if parts.iter().all(|part| part.logical_null_count() == 0) {
        return None;
    }
    let mut validity = arrow::array::BooleanBufferBuilder::new(row_count);
    for part in parts {
        match part.logical_nulls() {
            Some(nulls) => validity.append_buffer(nulls.inner()),
            None => validity.append_n(part.len(), true),
        }
    }
    Some(NullBuffer::new(validity.finish()))
}

#[derive(Default)]
struct DistinctValues<'a> {
    keys: HashMap<&'a str, i32, RandomState>,
    values: Vec<&'a str>,
    bytes: usize,
}

impl<'a> DistinctValues<'a> {
    /// The key of each of these values here; a null value has key 0.
    fn add(&mut self, values: &'a StringArray) -> Result<Vec<i32>, ArrowError> {
        let mut new_keys = Vec::with_capacity(values.len());
        for value in values {
            let Some(value) = value else {
                new_keys.push(0);
                continue;
            };
            let next_key = self.values.len();
            new_keys.push(match self.keys.entry(value) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    self.values.push(value);
                    self.bytes += value.len();
                    *vacant
                        .insert(i32::try_from(next_key).map_err(|_| ArrowError::DictionaryKeyOverflowError)?)
                }
            });
        }
        if i32::try_from(self.bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(self.bytes));
        }
        Ok(new_keys)
    }

    fn finish(self) -> StringArray {
        let mut builder = StringBuilder::with_capacity(self.values.len(), self.bytes);
        self.values.iter().for_each(|value| builder.append_value(value));
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    fn stored(lsn: u64, columns: Vec<(u16, ArrayRef)>) -> Arc<StoredBatch> {
        Arc::new(StoredBatch {
            lsn_first: lsn,
            lsn_last: lsn,
            lsn_runs: vec![(columns[0].1.len() as u32, lsn)],
            row_count: columns[0].1.len(),
            columns: columns
                .into_iter()
                .map(|(id, array)| (ColumnId(id), array))
                .collect(),
            time_column: ColumnId(0),
            time_min: lsn as i64,
            time_max: lsn as i64 + 10,
            byte_size: 0,
        })
    }

    fn tags(keys: &[Option<i32>], values: &[Option<&str>]) -> ArrayRef {
        let values: StringArray = values.iter().copied().collect();
        let keys: Int32Array = keys.iter().copied().collect();
        Arc::new(DictionaryArray::new(keys, Arc::new(values)))
    }

    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        let tags = array.as_dictionary::<Int32Type>();
        let typed = tags.downcast_dict::<StringArray>().unwrap();
        typed.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn dictionaries_become_one_of_distinct_values_whatever_is_null() {
        let parts = [
            stored(
                1,
                vec![(1, tags(&[Some(0), None, Some(1)], &[Some("a"), Some("b")]))],
            ),
            stored(2, vec![(1, tags(&[None, None], &[]))]),
            stored(
                3,
                vec![(
                    1,
                    tags(&[Some(2), Some(0), Some(1)], &[Some("b"), None, Some("c")]),
                )],
            ),
            stored(
                4,
                vec![(
                    1,
                    tags(&[Some(0), Some(1), Some(0)], &[Some("a"), Some("a")]).slice(1, 2),
                )],
            ),
        ];
        let merged = merge(&parts).unwrap();
        let column = merged.column(ColumnId(1)).unwrap();
        let expected = ["a", "-", "b", "-", "-", "c", "b", "-", "a", "a"];
        let expected: Vec<Option<String>> = expected
            .iter()
            .map(|text| (*text != "-").then(|| (*text).to_owned()))
            .collect();
        assert_eq!(texts(column), expected);
        let values = column.as_dictionary::<Int32Type>().values().as_string::<i32>();
        assert_eq!(values.iter().flatten().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(values.null_count(), 0);
    }

    #[test]
    fn columns_are_united_and_the_range_covers_all() {
        let floats = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
        let merged = merge(&[
            stored(5, vec![(0, floats(&[1.0])), (3, floats(&[2.0]))]),
            stored(
                6,
                vec![
                    (0, floats(&[3.0, 4.0])),
                    (1, tags(&[Some(0), None], &[Some("x")])),
                ],
            ),
        ])
        .unwrap();
        assert_eq!((merged.lsn_first, merged.lsn_last, merged.row_count), (5, 6, 3));
        assert_eq!((merged.time_min, merged.time_max), (5, 16));
        let ids: Vec<u16> = merged.columns.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [0, 1, 3]);
        assert_eq!(
            texts(merged.column(ColumnId(1)).unwrap()),
            [None, Some("x".to_owned()), None]
        );
        let late_column = merged.column(ColumnId(3)).unwrap();
        assert_eq!((late_column.len(), late_column.null_count()), (3, 2));
        assert_eq!(merged.byte_size, memory_size(&merged.columns));
    }

    #[test]
    fn a_column_of_two_types_is_refused() {
        let one: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let other: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let error = merge(&[stored(1, vec![(0, one)]), stored(2, vec![(0, other)])]).unwrap_err();
        assert!(
            error.to_string().contains("has another type in one batch"),
            "{error}"
        );
        assert!(merge(&[]).is_err());
    }
}
