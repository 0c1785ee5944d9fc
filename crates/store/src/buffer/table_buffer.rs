//! The rows of one table: a list of batches in log order, and what tells which of them may be duplicates.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidemill_catalog::TableId;

use crate::buffer::merge_plan::{BatchSize, MergePlan, plan};
use crate::buffer::series_times::SeriesTimes;
use crate::{DataFile, RowDelete, StoredBatch, TableBatch, TableStats};

/// The rows of a table at one moment.
#[derive(Debug, Clone, Default)]
pub struct TableSnapshot {
    /// In log order; rows of one batch are in log order too.
    pub batches: Vec<Arc<StoredBatch>>,
    /// Windows of time, nanoseconds since the epoch, both ends inclusive, ascending and disjoint, in which a point may
    /// occur twice. Outside of them every row is the only one of its point.
    pub late: Vec<(i64, i64)>,
    /// Rows in all batches, those of one point counted each.
    pub row_count: usize,
    /// Memory of the batches.
    pub byte_size: usize,
    /// The files with what was written before all of `batches`, by [`DataFile::lsn_first`] and then by time.
    pub files: Arc<[Arc<DataFile>]>,
    /// Deletes that one of `files` still awaits, in log order. `batches` await none.
    pub deletes: Arc<[Arc<RowDelete>]>,
}

/// The files of a table at one moment, without what is in memory only.
#[derive(Debug, Clone, Default)]
pub struct TableFiles {
    /// By [`DataFile::lsn_first`] and then by time.
    pub files: Arc<[Arc<DataFile>]>,
    /// Deletes that one of `files` still awaits, in log order.
    pub deletes: Arc<[Arc<RowDelete>]>,
}

/// Memory of all tables of a store together.
pub(crate) type SharedByteCount = Arc<AtomicUsize>;

pub(crate) struct TableBuffer {
    table: TableId,
    pub(super) total_bytes: SharedByteCount,
    pub(super) merge_target: BatchSize,
    pub(super) late_windows_max: usize,
    /// Taken by the writer and where files take the place of rows, and then `list` inside of it.
    pub(super) series: Mutex<Series>,
    /// Never held for longer than a list is copied.
    pub(super) list: Mutex<BatchList>,
    /// True from the moment the table is handed to the merger until that starts with it.
    pub(crate) merge_is_queued: AtomicBool,
}

/// What is known of the series of the rows in the list.
pub(super) struct Series {
    /// Of all rows.
    pub(super) all: SeriesTimes,
    /// Of the rows behind the mark, while there is one: what remains when those before it have become files.
    pub(super) behind_mark: Option<SeriesTimes>,
}

impl Series {
    fn add(&mut self, batch: &TableBatch) -> bool {
        if let Some(behind_mark) = &mut self.behind_mark {
            behind_mark.add(batch);
        }
        self.all.add(batch)
    }

    pub(super) fn byte_size(&self) -> usize {
        self.all.byte_size() + self.behind_mark.as_ref().map_or(0, SeriesTimes::byte_size)
    }
}

/// The batches, and the files with what was written before them.
#[derive(Default)]
pub(super) struct BatchList {
    pub(super) batches: Vec<Arc<StoredBatch>>,
    pub(super) files: Arc<[Arc<DataFile>]>,
    pub(super) deletes: Arc<[Arc<RowDelete>]>,
    pub(super) late: Vec<(i64, i64)>,
    pub(super) row_count: usize,
    pub(super) column_bytes: usize,
    pub(super) series_bytes: usize,
    /// So many of the oldest batches are never merged again.
    pub(super) settled_count: usize,
    /// So many of the oldest batches are being made into files: they lie before the mark, and nothing is merged across it.
    pub(super) frozen_count: usize,
    /// The mark's place in the log, while there is one.
    pub(super) mark: Option<u64>,
    /// No merge is tried again after one failed.
    pub(super) merge_failed: bool,
    pub(super) is_dropped: bool,
}

impl TableBuffer {
    pub(crate) fn new(
        table: TableId,
        total_bytes: SharedByteCount,
        merge_target: BatchSize,
        late_windows_max: usize,
    ) -> Self {
        Self {
            table,
            total_bytes,
            merge_target,
            late_windows_max,
            series: Mutex::new(Series {
                all: SeriesTimes::new(late_windows_max),
                behind_mark: None,
            }),
            list: Mutex::default(),
            merge_is_queued: AtomicBool::new(false),
        }
    }

    /// Appends the rows of a commit. Returns true when the table has become worth merging and is not queued for it.
    pub(crate) fn apply(&self, lsn: u64, batch: &TableBatch) -> bool {
        let stored = Arc::new(StoredBatch::of_commit(lsn, batch));
        let mut series = self.series.lock();
        let late_changed = series.add(batch);
        let series_bytes = series.byte_size();
        let late = late_changed.then(|| series.all.late().to_vec());

        // Rows and windows become visible together.
        let mut list = self.list.lock();
        if list.is_dropped {
            return false;
        }
        debug_assert!(
            list.batches.last().is_none_or(|last| last.lsn_last <= lsn),
            "commits are applied in log order"
        );
        if let Some(late) = late {
            list.late = late;
        }
        self.total_bytes.fetch_add(stored.byte_size, Ordering::Relaxed);
        list.set_series_bytes(series_bytes, &self.total_bytes);
        list.row_count += stored.row_count;
        list.column_bytes += stored.byte_size;
        list.batches.push(stored);
        // To plan takes a look at all small batches, and these grow many where the merger lags. A table that is queued
        // is looked at when its turn comes, after this batch: the turn begins under the same lock.
        !self.merge_is_queued.load(Ordering::Acquire) && list.next_merge(self.merge_target).is_some()
    }

    pub(crate) fn snapshot(&self) -> TableSnapshot {
        let list = self.list.lock();
        TableSnapshot {
            batches: list.batches.clone(),
            late: list.late.clone(),
            row_count: list.row_count,
            byte_size: list.column_bytes,
            files: Arc::clone(&list.files),
            deletes: Arc::clone(&list.deletes),
        }
    }

    pub(crate) fn files(&self) -> TableFiles {
        let list = self.list.lock();
        TableFiles {
            files: Arc::clone(&list.files),
            deletes: Arc::clone(&list.deletes),
        }
    }

    pub(crate) fn stats(&self) -> TableStats {
        let series = self.series.lock().all.series_count();
        let list = self.list.lock();
        TableStats {
            table: self.table,
            column_bytes: list.column_bytes,
            series_bytes: list.series_bytes,
            rows: list.row_count,
            batches: list.batches.len(),
            series,
            late_windows: list.late.len(),
            files: list.files.len(),
        }
    }

    /// Forgets the rows, and those that are still to come.
    pub(crate) fn drop_rows(&self) {
        let mut list = self.list.lock();
        self.total_bytes
            .fetch_sub(list.column_bytes + list.series_bytes, Ordering::Relaxed);
        *list = BatchList {
            is_dropped: true,
            ..BatchList::default()
        };
    }

    /// The neighbours that are to be merged next, oldest first.
    pub(crate) fn batches_to_merge(&self) -> Option<Vec<Arc<StoredBatch>>> {
        let mut list = self.list.lock();
        let run = list.next_merge(self.merge_target)?;
        Some(list.batches[run].to_vec())
    }

    /// Puts a merged batch in the place of those it was made of; does nothing if they are gone.
    pub(crate) fn replace(&self, merged_from: &[Arc<StoredBatch>], merged: StoredBatch) {
        let mut list = self.list.lock();
        let is_first =
            |batch: &Arc<StoredBatch>| merged_from.first().is_some_and(|first| Arc::ptr_eq(first, batch));
        // They lie near the end, where batches were appended meanwhile.
        let Some(start) = list.batches.iter().rposition(is_first) else {
            return;
        };
        // Merged before the mark was set, and being made into files as they were.
        if start < list.frozen_count {
            return;
        }
        let range = start..start + merged_from.len();
        let present = list.batches.get(range.clone()).unwrap_or_default();
        let are_same = |(a, b): (&Arc<StoredBatch>, &Arc<StoredBatch>)| Arc::ptr_eq(a, b);
        if present.len() != merged_from.len() || !present.iter().zip(merged_from).all(are_same) {
            return;
        }
        let bytes_before: usize = merged_from.iter().map(|batch| batch.byte_size).sum();
        self.total_bytes.fetch_add(merged.byte_size, Ordering::Relaxed);
        self.total_bytes.fetch_sub(bytes_before, Ordering::Relaxed);
        list.column_bytes = list.column_bytes + merged.byte_size - bytes_before;
        list.batches.splice(range, [Arc::new(merged)]);
    }

    /// Leaves the batches of this table as they are from now on.
    pub(crate) fn give_up_merging(&self) {
        self.list.lock().merge_failed = true;
    }

    pub(crate) fn table(&self) -> TableId {
        self.table
    }

    pub(crate) fn has_rows(&self) -> bool {
        !self.list.lock().batches.is_empty()
    }
}

impl BatchList {
    pub(super) fn set_series_bytes(&mut self, series_bytes: usize, total_bytes: &AtomicUsize) {
        if self.series_bytes != series_bytes {
            total_bytes.fetch_add(series_bytes, Ordering::Relaxed);
            total_bytes.fetch_sub(self.series_bytes, Ordering::Relaxed);
            self.series_bytes = series_bytes;
        }
    }

    /// Positions of the neighbours that are to be merged next.
    pub(super) fn next_merge(&mut self, target: BatchSize) -> Option<Range<usize>> {
        if self.merge_failed {
            return None;
        }
        let size = |batch: &Arc<StoredBatch>| BatchSize {
            row_count: batch.row_count,
            byte_size: batch.byte_size,
        };
        let start = self.settled_count.max(self.frozen_count);
        match plan(&self.batches[start..], size, target) {
            MergePlan::Merge(run) => Some(start + run.start..start + run.end),
            MergePlan::Settled(count) => {
                // Batches in front of the mark are merged after all where it is taken back.
                if self.frozen_count == 0 {
                    self.settled_count += count;
                }
                None
            }
        }
    }
}
