//! Which rows of which stored batches a scan reads.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::array::{AsArray, TimestampNanosecondArray};
use datafusion::arrow::datatypes::TimestampNanosecondType;
use tidemill_store::StoredBatch;

use crate::intervals::{Cover, Interval, Intervals};
use crate::layout::TableLayout;

/// A run of rows of one stored batch, and which of them are meant.
#[derive(Clone, Debug)]
pub(crate) struct BufferPart {
    batch: Arc<StoredBatch>,
    /// First row.
    offset: usize,
    /// Number of rows.
    len: usize,
    /// Only rows whose time is in this set are meant; `None`: all of the run.
    keep: Option<Arc<Intervals>>,
}

impl BufferPart {
    /// The rows of `batch` whose time is in `wanted`; `None` if there is certainly none.
    pub(crate) fn select(batch: &Arc<StoredBatch>, wanted: &Intervals) -> Option<Self> {
        let hull = batch_hull(batch);
        let keep = match wanted.cover(hull) {
            Cover::None => return None,
            Cover::All => None,
            Cover::Some => Some(Arc::new(wanted.within(hull))),
        };
        (batch.row_count > 0).then(|| Self {
            batch: Arc::clone(batch),
            offset: 0,
            len: batch.row_count,
            keep,
        })
    }

    /// The number of rows of the run; an upper bound if not all of them are meant.
    pub(crate) fn row_count_max(&self) -> usize {
        self.len
    }

    pub(crate) fn keep(&self) -> Option<&Intervals> {
        self.keep.as_deref()
    }

    /// The range that the times of the batch span; both ends occur in the batch, not necessarily in this run.
    pub(crate) fn time_hull(&self) -> Interval {
        batch_hull(&self.batch)
    }

    /// Rows `from .. from + len` of the run.
    pub(crate) fn slice(&self, from: usize, len: usize) -> Self {
        debug_assert!(from + len <= self.len, "a slice lies inside its run");
        Self {
            batch: Arc::clone(&self.batch),
            offset: self.offset + from,
            len,
            keep: self.keep.clone(),
        }
    }

    /// A column of the run; of nulls where the batch was written before the column existed or never had it.
    pub(crate) fn column(&self, layout: &TableLayout, position: usize) -> ArrayRef {
        self.present_column(layout, position)
            .unwrap_or_else(|| new_null_array(&layout.column(position).column_type.arrow_type(), self.len))
    }

    /// A column of the run, if the batch has it.
    pub(crate) fn present_column(&self, layout: &TableLayout, position: usize) -> Option<ArrayRef> {
        let array = self.batch.column(layout.column(position).id)?;
        Some(if self.len == array.len() {
            Arc::clone(array)
        } else {
            array.slice(self.offset, self.len)
        })
    }

    /// How many values of a column are null in the run.
    pub(crate) fn null_count(&self, layout: &TableLayout, position: usize) -> usize {
        match self.batch.column(layout.column(position).id) {
            Some(array) if array.null_count() == 0 => 0,
            Some(array) if self.len == array.len() => array.null_count(),
            Some(array) => array.slice(self.offset, self.len).null_count(),
            None => self.len,
        }
    }

    pub(crate) fn times(&self, layout: &TableLayout) -> TimestampNanosecondArray {
        self.column(layout, layout.time())
            .as_primitive::<TimestampNanosecondType>()
            .clone()
    }
}

/// The range that the times of a batch span.
pub(crate) fn batch_hull(batch: &StoredBatch) -> Interval {
    Interval {
        first: batch.time_min,
        last: batch.time_max,
    }
}

/// Spreads runs over at most `partition_count` partitions of nearly equal numbers of rows, in their order.
pub(crate) fn spread(parts: Vec<BufferPart>, partition_count: usize) -> Vec<Vec<BufferPart>> {
    let row_count: usize = parts.iter().map(BufferPart::row_count_max).sum();
    let rows_per_partition = row_count.div_ceil(partition_count.max(1)).max(1);
    let mut partitions: Vec<Vec<BufferPart>> = Vec::with_capacity(partition_count);
    let mut room = 0;
    for part in parts {
        let mut from = 0;
        while from < part.len {
            if room == 0 {
                partitions.push(Vec::new());
                room = rows_per_partition;
            }
            let len = room.min(part.len - from);
            let partition = partitions.last_mut().expect("a partition with room was pushed");
            partition.push(part.slice(from, len));
            from += len;
            room -= len;
        }
    }
    if partitions.is_empty() {
        partitions.push(Vec::new());
    }
    partitions
}
