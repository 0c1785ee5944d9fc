//! Rows that are in memory only.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::layout;

/// Batches are put together up to this size: the rows that are dropped at once when there is no room.
const CHUNK_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug)]
struct Chunk {
    rows: RecordBatch,
    bytes: usize,
}

/// A queue of rows in the order in which they were appended. Small batches are put together as they come, so that a
/// thousand appends of one row make a dozen batches.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    rows: usize,
}

impl Unflushed {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.chunks.iter().map(|chunk| &chunk.rows)
    }

    pub(crate) fn push(&mut self, rows: RecordBatch) {
        let bytes = layout::size_bytes(&rows);
        self.rows += rows.num_rows();
        self.bytes += bytes;
        self.chunks.push_back(Chunk { rows, bytes });
        while let Some(merged) = self.merge_newest() {
            self.chunks.truncate(self.chunks.len() - 2);
            self.chunks.push_back(merged);
        }
    }

    /// The last two as one, if the older one is not much larger: so each row is copied a few times at most.
    fn merge_newest(&self) -> Option<Chunk> {
        let newer = self.chunks.back()?;
        let older = self.chunks.get(self.chunks.len().checked_sub(2)?)?;
        let bytes = older.bytes + newer.bytes;
        if older.bytes >= 2 * newer.bytes || bytes > CHUNK_BYTES_MAX {
            return None;
        }
        let rows = concat_batches(older.rows.schema_ref(), [&older.rows, &newer.rows]).ok()?;
        Some(Chunk { rows, bytes })
    }

    fn pop_oldest(&mut self) -> Option<Chunk> {
        let oldest = self.chunks.pop_front()?;
        self.bytes -= oldest.bytes;
        self.rows -= oldest.rows.num_rows();
        Some(oldest)
    }

    /// Drops the oldest rows until no more than so many bytes are left. Returns how many were dropped.
    pub(crate) fn drop_to(&mut self, bytes_max: usize) -> usize {
        let rows_before = self.rows;
        while self.bytes > bytes_max && self.pop_oldest().is_some() {}
        rows_before - self.rows
    }

    /// Takes the oldest rows, so many bytes of them or one batch.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Self {
        let mut taken = Self::default();
        while let Some(oldest) = self.chunks.front() {
            if taken.rows > 0 && taken.bytes + oldest.bytes > bytes_max {
                break;
            }
            let Some(chunk) = self.pop_oldest() else { break };
            taken.rows += chunk.rows.num_rows();
            taken.bytes += chunk.bytes;
            taken.chunks.push_back(chunk);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, TimestampNanosecondArray};

    use super::*;

    fn row(number: i64) -> RecordBatch {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![number]));
        RecordBatch::try_from_iter([("event_time", times)]).unwrap()
    }

    fn numbers(rows: &Unflushed) -> Vec<i64> {
        let times = rows.batches().flat_map(|batch| layout::times(batch).values());
        times.copied().collect()
    }

    #[test]
    fn single_rows_are_put_together_in_order() {
        let mut rows = Unflushed::default();
        (0..100_000).for_each(|number| rows.push(row(number)));
        assert_eq!(numbers(&rows), (0..100_000).collect::<Vec<i64>>());
        assert_eq!((rows.rows(), rows.bytes()), (100_000, 800_000));
        // Eight full ones at most half empty, and one of each power of two.
        assert!(rows.chunks.len() <= 2 * 7 + 17, "{} batches", rows.chunks.len());
    }

    #[test]
    fn the_oldest_are_taken_and_dropped() {
        let mut rows = Unflushed::default();
        (0..100_000).for_each(|number| rows.push(row(number)));
        let taken = rows.take(200_000);
        assert!(taken.bytes() <= 200_000 && taken.bytes() > 0);
        let first = taken.rows() as i64;
        assert_eq!(numbers(&taken), (0..first).collect::<Vec<i64>>());

        let dropped = rows.drop_to(300_000) as i64;
        assert!(rows.bytes() <= 300_000 && rows.bytes() >= 300_000 - CHUNK_BYTES_MAX);
        assert_eq!(numbers(&rows), (first + dropped..100_000).collect::<Vec<i64>>());

        assert!(rows.take(0).rows() > 0, "one batch is always taken");
        rows.drop_to(0);
        assert_eq!((rows.rows(), rows.bytes(), rows.take(1).rows()), (0, 0, 0));
    }
}
