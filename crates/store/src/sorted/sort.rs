//! Bringing the buffer's rows into the order of their points.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use futures::StreamExt;
use tidemill_catalog::{ColumnId, Table};
use tidemill_lineproto::ColumnType;

use crate::sorted::gather::Gatherer;
use crate::sorted::series_ranks::SeriesRanks;
use crate::sorted::{BATCH_ROWS, SortedStream};
use crate::{FileError, FileSchema, StoredBatch};

/// Rows of a table's buffer in the order of their points. What is kept beside the rows themselves are 8 bytes a row; the
/// rows in order are made batch by batch when they are asked for.
#[derive(Debug)]
pub struct SortedRows {
    schema: FileSchema,
    gatherer: Gatherer,
    order: PointOrder,
    next_row: usize,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// All rows by series, time, and place in the log.
#[derive(Debug)]
pub(crate) struct PointOrder {
    pub(crate) rows: Vec<RowPlace>,
    /// Positions in `rows` that are of the same point as the next; ascending.
    pub(crate) superseded: Vec<usize>,
    /// For each series the position of its first row, and last the number of rows.
    pub(crate) series_starts: Vec<usize>,
}

/// The rows of batches of `table`, in log order, as sorted batches with the columns of a [`FileSchema`]: those that one of
/// the batches has. Each point occurs once, the later row winning field by field.
///
/// # Errors
/// [`FileError::Columns`] when a batch does not fit the table; [`FileError::TooMuch`] beyond 2^32 rows or 2 GiB of values
/// of one tag.
pub fn sort_batches(table: &Table, batches: &[Arc<StoredBatch>]) -> Result<Vec<RecordBatch>, FileError> {
    SortedRows::new(table, batches)?.collect()
}

impl SortedRows {
    /// Finds the order. Errors are those of [`sort_batches`].
    pub fn new(table: &Table, batches: &[Arc<StoredBatch>]) -> Result<Self, FileError> {
        let row_count: usize = batches.iter().map(|batch| batch.row_count).sum();
        if u32::try_from(row_count).is_err() {
            return Err(FileError::TooMuch(format!(
                "{row_count} rows of table '{}'",
                table.name
            )));
        }
        let is_present = |id: ColumnId| batches.iter().any(|batch| batch.column(id).is_some());
        let schema = FileSchema::new(table, is_present);
        let is_tag = |(id, kind): &(ColumnId, ColumnType)| (*kind == ColumnType::Tag).then_some(*id);
        let tags: Vec<ColumnId> = schema.columns().iter().filter_map(is_tag).collect();
        let ranks = SeriesRanks::new(batches, &tags)?;
        let times = times_of(table, batches)?;
        let order = PointOrder::new(&ranks.series_of_row, ranks.series_count, &times);
        let gatherer = Gatherer::new(&schema, batches, ranks.tags)?;
        Ok(Self {
            schema,
            gatherer,
            order,
            next_row: 0,
        })
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &FileSchema {
        &self.schema
    }

    /// Points of all batches, those that were taken already included.
    pub fn point_count(&self) -> usize {
        self.order.rows.len() - self.order.superseded.len()
    }

    /// The batches as a stream.
    pub fn into_stream(self) -> SortedStream {
        futures::stream::iter(self).boxed()
    }
}

impl Iterator for SortedRows {
    type Item = Result<RecordBatch, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next_row;
        if start == self.order.rows.len() {
            return None;
        }
        let end = self.order.end_of_points(start, BATCH_ROWS);
        self.next_row = end;
        Some(self.gatherer.gather(self.schema.arrow(), &self.order, start..end))
    }
}

impl PointOrder {
    /// `times` are those of all rows by batch, `series_of_row` all rows' series, batch after batch.
    fn new(series_of_row: &[u32], series_count: usize, times: &[&[i64]]) -> Self {
        let mut series_starts = vec![0_usize; series_count + 1];
        for series in series_of_row {
            series_starts[*series as usize + 1] += 1;
        }
        for series in 0..series_count {
            series_starts[series + 1] += series_starts[series];
        }
        let mut next_of_series = series_starts.clone();
        let mut rows = vec![RowPlace { batch: 0, row: 0 }; series_of_row.len()];
        let mut series = series_of_row.iter();
        for (batch, times) in times.iter().enumerate() {
            for (row, series) in (0..times.len()).zip(&mut series) {
                let position = &mut next_of_series[*series as usize];
                rows[*position] = RowPlace {
                    batch: batch as u32,
                    row: row as u32,
                };
                *position += 1;
            }
        }

        let time = |place: &RowPlace| times[place.batch as usize][place.row as usize];
        let mut superseded = Vec::new();
        for bounds in series_starts.windows(2) {
            let rows = &mut rows[bounds[0]..bounds[1]];
            if !rows.is_sorted_by_key(time) {
                // Stable: rows of a point stay in log order.
                rows.sort_by_key(time);
            }
            let pairs = rows.windows(2).enumerate();
            let same_point = pairs.filter(|(_, pair)| time(&pair[0]) == time(&pair[1]));
            superseded.extend(same_point.map(|(position, _)| bounds[0] + position));
        }
        Self {
            rows,
            superseded,
            series_starts,
        }
    }

    /// The end of the rows that make so many points from `start` on, or fewer at the end.
    fn end_of_points(&self, start: usize, point_count: usize) -> usize {
        let mut end = (start + point_count).min(self.rows.len());
        let first = self.superseded.partition_point(|position| *position < start);
        // Each superseded row in the range makes room for one more.
        let mut counted = 0;
        loop {
            let inside = self.superseded[first..].partition_point(|position| *position < end);
            if inside == counted {
                return end;
            }
            end = (end + inside - counted).min(self.rows.len());
            counted = inside;
        }
    }
}

fn times_of<'a>(table: &Table, batches: &'a [Arc<StoredBatch>]) -> Result<Vec<&'a [i64]>, FileError> {
    let time_column = table.time_column().id;
    let times = batches.iter().map(|batch| {
        let column = batch.column(time_column);
        let times = column.and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
        let times = times.filter(|times| times.len() == batch.row_count);
        let times = times
            .ok_or_else(|| FileError::Columns(format!("a batch of table '{}' has no time", table.name)))?;
        Ok(&times.values()[..])
    });
    times.collect()
}
