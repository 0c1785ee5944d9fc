//! Reading a journal: from the newest rows to the oldest, so that those who want few read little.

use std::ops::{Bound, RangeBounds, RangeInclusive};

use arrow::array::RecordBatch;

use crate::layout::Layout;
use crate::object::Object;
use crate::{Journal, JournalError, codec, layout};

impl Journal {
    /// The rows of these times, in nanoseconds, in the order in which they were appended. Those that are too old are
    /// left out. Holds all of them in memory: no
    /// more than the journal may hold.
    ///
    /// # Errors
    /// When the store fails. Damaged objects are skipped, and named in the log.
    pub async fn scan(&self, times: impl RangeBounds<i64>) -> Result<Vec<RecordBatch>, JournalError> {
        self.newest_of(inclusive(&times), usize::MAX, |batch| batch).await
    }

    /// Like [`Self::scan`], but of each batch only what `select` makes of it: some of its rows or columns. No more
    /// than that, and one object, is in memory at a time.
    ///
    /// # Errors
    /// When the store fails. Damaged objects are skipped, and named in the log.
    pub async fn scan_with(
        &self,
        times: impl RangeBounds<i64>,
        select: impl Fn(RecordBatch) -> RecordBatch + Send + Sync,
    ) -> Result<Vec<RecordBatch>, JournalError> {
        self.newest_of(inclusive(&times), usize::MAX, select).await
    }

    /// So many rows, those that were appended last, in the order in which they were appended. Reads no more objects than
    /// it needs.
    ///
    /// # Errors
    /// When the store fails. Damaged objects are skipped, and named in the log.
    pub async fn scan_newest(&self, rows_max: usize) -> Result<Vec<RecordBatch>, JournalError> {
        self.newest_of(i64::MIN..=i64::MAX, rows_max, |batch| batch).await
    }

    async fn newest_of(
        &self,
        times: RangeInclusive<i64>,
        rows_max: usize,
        select: impl Fn(RecordBatch) -> RecordBatch + Send + Sync,
    ) -> Result<Vec<RecordBatch>, JournalError> {
        let oldest_kept = self.config.oldest_kept((self.clock)());
        let times = oldest_kept.max(*times.start())..=*times.end();
        let (objects, in_memory) = self.state.lock().snapshot();
        let mut newest = Newest {
            times,
            rows_missing: rows_max,
            select,
            batches: Vec::new(),
        };
        newest.extend(in_memory);
        for object in objects.iter().rev() {
            if newest.rows_missing == 0 {
                break;
            }
            if object.name.has_times_in(&newest.times) {
                newest.extend(self.read(object).await?.unwrap_or_default());
            }
        }
        newest.batches.reverse();
        Ok(newest.batches)
    }

    /// The rows of an object, or None if it is damaged or missing, which is logged once.
    pub(crate) async fn read(&self, object: &Object) -> Result<Option<Vec<RecordBatch>>, JournalError> {
        self.read_as(object, &self.layout).await
    }

    /// Like [`Self::read`], but only the columns of a layout.
    pub(crate) async fn read_as(
        &self,
        object: &Object,
        layout: &Layout,
    ) -> Result<Option<Vec<RecordBatch>>, JournalError> {
        if object.is_damaged() {
            return Ok(None);
        }
        let decoded = match self.folder.get(&object.name).await? {
            Some(content) => {
                let layout = layout.clone();
                self.blocking(move || codec::decode(&layout, content)).await?
            }
            None => Err("it is missing".to_owned()),
        };
        if let Err(reason) = &decoded
            && object.set_damaged()
        {
            let path = self.folder.path(&object.name);
            tracing::warn!(object = %path, reason, "object of the journal is damaged, skipped");
        }
        Ok(decoded.ok())
    }
}

/// Rows that are collected from the newest to the oldest.
struct Newest<F> {
    times: RangeInclusive<i64>,
    rows_missing: usize,
    select: F,
    /// The newest first.
    batches: Vec<RecordBatch>,
}

impl<F: Fn(RecordBatch) -> RecordBatch> Newest<F> {
    /// Takes what is wanted of rows that are older than those before.
    fn extend(&mut self, batches: Vec<RecordBatch>) {
        for batch in batches.into_iter().rev() {
            let wanted = (self.select)(layout::within(batch, &self.times));
            let taken = wanted.num_rows().min(self.rows_missing);
            if taken > 0 {
                self.batches.push(wanted.slice(wanted.num_rows() - taken, taken));
                self.rows_missing -= taken;
            }
        }
    }
}

fn inclusive(times: &impl RangeBounds<i64>) -> RangeInclusive<i64> {
    let start = match times.start_bound() {
        Bound::Included(&start) => Some(start),
        Bound::Excluded(&before) => before.checked_add(1),
        Bound::Unbounded => Some(i64::MIN),
    };
    let end = match times.end_bound() {
        Bound::Included(&end) => Some(end),
        Bound::Excluded(&after) => after.checked_sub(1),
        Bound::Unbounded => Some(i64::MAX),
    };
    match (start, end) {
        (Some(start), Some(end)) => start..=end,
        _ => RangeInclusive::new(1, 0),
    }
}
