//! A batch of sorted rows as merging looks at it.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Int32Type, TimestampNanosecondType};

use crate::FileError;

/// The key of a row that does not have the tag.
const ABSENT: i32 = -1;

/// Rows that are sorted and of which it is known where series begin.
#[derive(Debug)]
pub(crate) struct SortedBatch {
    rows: RecordBatch,
    tags: Vec<TagKeys>,
    times: ScalarBuffer<i64>,
    /// The first row of each run of rows with equal tags; a series may have several runs.
    run_starts: Vec<usize>,
}

/// One tag of all rows.
#[derive(Debug)]
pub(crate) struct TagKeys {
    /// The position of each row's value, or [`ABSENT`].
    keys: ScalarBuffer<i32>,
    values: StringArray,
}

impl SortedBatch {
    /// `rows`, at least one, of which the first `key_columns` columns are tags and then time.
    pub(crate) fn new(rows: RecordBatch, key_columns: usize) -> Result<Self, FileError> {
        let (time_column, tag_columns) = rows
            .columns()
            .get(..key_columns)
            .and_then(|key| key.split_last())
            .ok_or_else(|| {
                FileError::Columns(format!(
                    "{} instead of {key_columns} key columns",
                    rows.num_columns()
                ))
            })?;
        let times = time_column.as_primitive_opt::<TimestampNanosecondType>();
        let times = times.filter(|times| times.null_count() == 0);
        let times =
            times.ok_or_else(|| FileError::Columns("time is no timestamp without nulls".to_owned()))?;
        let times = times.values().clone();
        let tags: Vec<TagKeys> = tag_columns.iter().map(TagKeys::new).collect::<Result<_, _>>()?;
        let mut begins_run = vec![false; rows.num_rows()];
        if let Some(first) = begins_run.first_mut() {
            *first = true;
        }
        for tag in &tags {
            for (begins, pair) in begins_run[1..].iter_mut().zip(tag.keys.windows(2)) {
                *begins |= pair[0] != pair[1];
            }
        }
        let run_starts = begins_run
            .iter()
            .enumerate()
            .filter(|(_, begins)| **begins)
            .map(|(row, _)| row)
            .collect();
        let batch = Self {
            rows,
            tags,
            times,
            run_starts,
        };
        batch.check_order(&begins_run)?;
        Ok(batch)
    }

    fn check_order(&self, begins_run: &[bool]) -> Result<(), FileError> {
        let mut ascends = true;
        for (pair, begins) in self.times.windows(2).zip(&begins_run[1..]) {
            ascends &= *begins || pair[0] < pair[1];
        }
        ascends &= self.run_starts[1..]
            .iter()
            .all(|&start| self.compare(start - 1, self, start).is_lt());
        if ascends {
            return Ok(());
        }
        let unordered = (1..self.row_count()).find(|&row| !self.compare(row - 1, self, row).is_lt());
        Err(FileError::Unsorted(format!(
            "row {} of a batch of {} comes after one that is not before it",
            unordered.unwrap_or_default(),
            self.row_count()
        )))
    }

    pub(crate) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    pub(crate) fn row_count(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn tag(&self, position: usize) -> &TagKeys {
        &self.tags[position]
    }

    pub(crate) fn times(&self) -> &[i64] {
        &self.times
    }

    /// The first row of each run of rows with equal tags, ascending.
    pub(crate) fn run_starts(&self) -> &[usize] {
        &self.run_starts
    }

    /// Compares the tags of two rows.
    pub(crate) fn compare_series(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let compare = |(own, others): (&TagKeys, &TagKeys)| own.value(row).cmp(&others.value(other_row));
        let pairs = self.tags.iter().zip(&other.tags);
        pairs
            .map(compare)
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Compares the points of two rows.
    pub(crate) fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let by_time = || self.times[row].cmp(&other.times[other_row]);
        self.compare_series(row, other, other_row).then_with(by_time)
    }
}

impl TagKeys {
    fn new(column: &ArrayRef) -> Result<Self, FileError> {
        let wrong_type = || FileError::Columns(format!("a tag is of type {}", column.data_type()));
        let dictionary = column.as_dictionary_opt::<Int32Type>().ok_or_else(wrong_type)?;
        let values = dictionary
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(wrong_type)?;
        let keys: &Int32Array = dictionary.keys();
        let has_absent = dictionary.logical_null_count() > 0;
        let keys = if has_absent {
            let key = |row| {
                if dictionary_is_null(keys, values, row) {
                    ABSENT
                } else {
                    keys.value(row)
                }
            };
            (0..keys.len()).map(key).collect()
        } else {
            keys.values().clone()
        };
        Ok(Self {
            keys,
            values: values.clone(),
        })
    }

    /// The tag of a row; absent ones are less than all others.
    pub(crate) fn value(&self, row: usize) -> Option<&str> {
        self.value_of_key(self.keys[row])
    }

    /// For each row a number: that of two rows is the same only if the tag is. Negative: the row has no such tag.
    pub(crate) fn keys(&self) -> &[i32] {
        &self.keys
    }

    /// The value of one of [`Self::keys`].
    pub(crate) fn value_of_key(&self, key: i32) -> Option<&str> {
        usize::try_from(key).ok().map(|key| self.values.value(key))
    }
}

fn dictionary_is_null(keys: &Int32Array, values: &StringArray, row: usize) -> bool {
    keys.is_null(row) || values.is_null(keys.value(row) as usize)
}
