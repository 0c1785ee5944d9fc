//! Batches as they come in and as they are kept.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampNanosecondType;
use tidemill_catalog::{ColumnId, TableId};

use crate::SeriesOfRows;

/// The rows that one commit wrote to one table.
#[derive(Debug, Clone)]
pub struct TableBatch {
    /// The table.
    pub table: TableId,
    /// `row_count` values a column, null where a row has none; tags are `Dictionary(Int32, Utf8)`. Time is included.
    pub columns: Vec<(ColumnId, ArrayRef)>,
    /// Rows in each column.
    pub row_count: usize,
    /// Which of the columns is time: `Timestamp(ns)` without nulls.
    pub time_column: ColumnId,
    /// Least time, nanoseconds since the epoch.
    pub time_min: i64,
    /// Greatest time, nanoseconds since the epoch.
    pub time_max: i64,
    /// Which series each row belongs to.
    pub series: SeriesOfRows,
}

impl TableBatch {
    /// The time of each row in nanoseconds since the epoch.
    ///
    /// # Panics
    /// When the time column is missing or of another type, which breaks the promise of [`TableBatch::time_column`].
    pub fn times(&self) -> &[i64] {
        times(&self.columns, self.time_column)
    }
}

/// Rows of one table as the buffer keeps them: one commit's, or those of several that were merged.
#[derive(Debug)]
pub struct StoredBatch {
    /// Log position of the first row.
    pub lsn_first: u64,
    /// Log position of the last row.
    pub lsn_last: u64,
    /// The log position of each row, run by run: the number of the run's rows, and their position. Ascending.
    pub lsn_runs: Vec<(u32, u64)>,
    /// `row_count` values a column; a column that none of these rows has is absent.
    pub columns: Vec<(ColumnId, ArrayRef)>,
    /// Rows in each column.
    pub row_count: usize,
    /// Which of the columns is time.
    pub time_column: ColumnId,
    /// Least time, nanoseconds since the epoch.
    pub time_min: i64,
    /// Greatest time, nanoseconds since the epoch.
    pub time_max: i64,
    /// Memory of the columns.
    pub byte_size: usize,
}

impl StoredBatch {
    pub(crate) fn of_commit(lsn: u64, batch: &TableBatch) -> Self {
        Self {
            lsn_first: lsn,
            lsn_last: lsn,
            lsn_runs: vec![(batch.row_count as u32, lsn)],
            columns: batch.columns.clone(),
            row_count: batch.row_count,
            time_column: batch.time_column,
            time_min: batch.time_min,
            time_max: batch.time_max,
            byte_size: memory_size(&batch.columns),
        }
    }

    /// The values of a column; `None` when all are null.
    pub fn column(&self, id: ColumnId) -> Option<&ArrayRef> {
        find_column(&self.columns, id)
    }

    /// The time of each row in nanoseconds since the epoch.
    pub fn times(&self) -> &[i64] {
        times(&self.columns, self.time_column)
    }
}

fn times(columns: &[(ColumnId, ArrayRef)], time_column: ColumnId) -> &[i64] {
    let time = find_column(columns, time_column).expect("a batch has its time column");
    time.as_primitive::<TimestampNanosecondType>().values()
}

fn find_column(columns: &[(ColumnId, ArrayRef)], id: ColumnId) -> Option<&ArrayRef> {
    columns
        .iter()
        .find(|(column, _)| *column == id)
        .map(|(_, array)| array)
}

/// Bytes that the arrays hold, buffers and descriptions.
pub(crate) fn memory_size(columns: &[(ColumnId, ArrayRef)]) -> usize {
    let entry = size_of::<(ColumnId, ArrayRef)>();
    columns
        .iter()
        .map(|(_, array)| entry + array.get_array_memory_size())
        .sum()
}
