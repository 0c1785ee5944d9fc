//! A place in one of the streams that are merged.

use std::cmp::Ordering;
use std::sync::Arc;

use futures::TryStreamExt;

use crate::FileError;
use crate::sorted::SortedStream;
use crate::sorted::sorted_batch::SortedBatch;

/// Stands at a row of one input.
pub(crate) struct Cursor {
    input: SortedStream,
    key_columns: usize,
    batch: Arc<SortedBatch>,
    row: usize,
    /// Which run of its batch the row is in.
    run: usize,
    /// Two cursors among which this is known have the same number if and only if their rows have the same tags.
    series: Option<u64>,
}

impl Cursor {
    /// At the first row; `None` when there is none.
    pub(crate) async fn open(mut input: SortedStream, key_columns: usize) -> Result<Option<Self>, FileError> {
        let Some(batch) = next_batch(&mut input, key_columns).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            input,
            key_columns,
            batch: Arc::new(batch),
            row: 0,
            run: 0,
            series: None,
        }))
    }

    pub(crate) fn batch(&self) -> &Arc<SortedBatch> {
        &self.batch
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// Moves on by rows of the present batch. Returns false when it is used up: then [`Self::next_batch`] goes on.
    pub(crate) fn advance(&mut self, row_count: usize) -> bool {
        self.row += row_count;
        let later_runs = &self.batch.run_starts()[self.run + 1..];
        let passed = later_runs.iter().take_while(|start| **start <= self.row);
        let passed_count = if self.row == self.batch.row_count() {
            later_runs.len()
        } else {
            passed.count()
        };
        if passed_count > 0 {
            self.run += passed_count;
            self.series = None;
        }
        self.row < self.batch.row_count()
    }

    /// Moves from the end of a batch to the first row of the next. Returns false when there is none.
    pub(crate) async fn next_batch(&mut self) -> Result<bool, FileError> {
        let Some(batch) = next_batch(&mut self.input, self.key_columns).await? else {
            return Ok(false);
        };
        if !self.batch.compare(self.batch.row_count() - 1, &batch, 0).is_lt() {
            let message = "a batch begins with a row that is not after the last one of the batch before";
            return Err(FileError::Unsorted(message.to_owned()));
        }
        self.batch = Arc::new(batch);
        (self.row, self.run, self.series) = (0, 0, None);
        Ok(true)
    }

    /// Compares the points that both stand at. That two are of the same series is remembered.
    pub(crate) fn compare(&mut self, other: &Self) -> Ordering {
        let by_series = if self.series.is_some() && self.series == other.series {
            Ordering::Equal
        } else {
            self.batch.compare_series(self.row, &other.batch, other.row)
        };
        if by_series.is_eq() {
            self.series = other.series;
        }
        by_series.then_with(|| self.time().cmp(&other.time()))
    }

    /// Gives the series a number that no other has, if it has none.
    pub(crate) fn number_series(&mut self, next_series: &mut u64) {
        if self.series.is_none() {
            self.series = Some(*next_series);
            *next_series += 1;
        }
    }

    pub(crate) fn is_at_point_of(&self, other: &Self) -> bool {
        self.series == other.series && self.time() == other.time()
    }

    /// How many rows of the present batch, from here on, come before the point that `other` stands at. This cursor's
    /// row comes before it.
    pub(crate) fn rows_before(&self, other: &Self) -> usize {
        let starts = self.batch.run_starts();
        let run_end = |run: usize| starts.get(run + 1).copied().unwrap_or(self.batch.row_count());
        if self.series == other.series {
            let times = &self.batch.times()[self.row..run_end(self.run)];
            return first_not(times.len(), |position| times[position] < other.time());
        }
        // Whole runs, as long as their series comes first; then perhaps a part of a run.
        let later_runs = &starts[self.run + 1..];
        let compare = |start: usize| self.batch.compare_series(start, &other.batch, other.row);
        let passed = first_not(later_runs.len(), |position| compare(later_runs[position]).is_lt());
        let Some(&start) = later_runs.get(passed) else {
            return self.batch.row_count() - self.row;
        };
        let mut end = start;
        if compare(start).is_eq() {
            let times = &self.batch.times()[start..run_end(self.run + 1 + passed)];
            end += first_not(times.len(), |position| times[position] < other.time());
        }
        end - self.row
    }

    fn time(&self) -> i64 {
        self.batch.times()[self.row]
    }
}

async fn next_batch(input: &mut SortedStream, key_columns: usize) -> Result<Option<SortedBatch>, FileError> {
    while let Some(rows) = input.try_next().await? {
        if rows.num_rows() > 0 {
            return SortedBatch::new(rows, key_columns).map(Some);
        }
    }
    Ok(None)
}

/// The first position below `length` that does not hold, where all before it do and none after it; looks near the
/// beginning first.
fn first_not(length: usize, holds: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    let mut start = 0;
    while start + step <= length && holds(start + step - 1) {
        start += step;
        step *= 2;
    }
    let mut end = length.min(start + step);
    while start < end {
        let middle = start + (end - start) / 2;
        if holds(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}
