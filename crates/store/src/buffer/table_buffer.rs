//! The rows of one table: a list of batches in log order, and what tells which of them may be duplicates.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidemill_catalog::TableId;

use crate::buffer::late_windows::LateWindows;
use crate::buffer::merge_plan::{BatchSize, MergePlan, plan};
use crate::buffer::series::PassThrough;
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

/// Memory of all tables of a store together.
pub(crate) type SharedByteCount = Arc<AtomicUsize>;

pub(crate) struct TableBuffer {
    table: TableId,
    total_bytes: SharedByteCount,
    merge_target: BatchSize,
    /// Only the writer takes this lock, and then `list` inside of it.
    series: Mutex<SeriesTimes>,
    /// Never held for longer than a list is copied.
    list: Mutex<BatchList>,
    /// True from the moment the table is handed to the merger until that starts with it.
    pub(crate) merge_is_queued: AtomicBool,
}

/// The newest time of each series, by canonical hash, and the windows of what came later than that.
struct SeriesTimes {
    newest: HashMap<u64, i64, PassThrough>,
    late: LateWindows,
}

#[derive(Default)]
struct BatchList {
    batches: Vec<Arc<StoredBatch>>,
    files: Arc<[Arc<DataFile>]>,
    deletes: Arc<[Arc<RowDelete>]>,
    late: Vec<(i64, i64)>,
    row_count: usize,
    column_bytes: usize,
    series_bytes: usize,
    /// So many of the oldest batches are never merged again.
    settled_count: usize,
    /// No merge is tried again after one failed.
    merge_failed: bool,
    is_dropped: bool,
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
            series: Mutex::new(SeriesTimes {
                newest: HashMap::with_hasher(PassThrough),
                late: LateWindows::new(late_windows_max),
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
        let series_bytes = series.newest.allocation_size();
        let late = late_changed.then(|| series.late.as_slice().to_vec());

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
        if list.series_bytes != series_bytes {
            self.total_bytes.fetch_add(series_bytes, Ordering::Relaxed);
            self.total_bytes.fetch_sub(list.series_bytes, Ordering::Relaxed);
            list.series_bytes = series_bytes;
        }
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

    pub(crate) fn stats(&self) -> TableStats {
        let series = self.series.lock().newest.len();
        let list = self.list.lock();
        TableStats {
            table: self.table,
            column_bytes: list.column_bytes,
            series_bytes: list.series_bytes,
            rows: list.row_count,
            batches: list.batches.len(),
            series,
            late_windows: list.late.len(),
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
}

impl BatchList {
    /// Positions of the neighbours that are to be merged next.
    fn next_merge(&mut self, target: BatchSize) -> Option<Range<usize>> {
        if self.merge_failed {
            return None;
        }
        let size = |batch: &Arc<StoredBatch>| BatchSize {
            row_count: batch.row_count,
            byte_size: batch.byte_size,
        };
        match plan(&self.batches[self.settled_count..], size, target) {
            MergePlan::Merge(run) => Some(self.settled_count + run.start..self.settled_count + run.end),
            MergePlan::Settled(count) => {
                self.settled_count += count;
                None
            }
        }
    }
}

impl SeriesTimes {
    /// Notes the rows' times. Returns true when the windows have changed.
    fn add(&mut self, batch: &TableBatch) -> bool {
        let hashes = batch.series.hashes();
        // A first row at the very least time counts as late, which does no harm.
        let mut newest: Vec<i64> = hashes
            .iter()
            .map(|hash| self.newest.get(hash).copied().unwrap_or(i64::MIN))
            .collect();
        let mut late_times: Vec<i64> = Vec::new();
        for (time, tag_set) in batch.times().iter().zip(batch.series.tag_set_of_row()) {
            let newest = &mut newest[*tag_set as usize];
            if *time > *newest {
                *newest = *time;
            } else if !self.late.contains(*time) {
                late_times.push(*time);
            }
        }
        self.newest.extend(hashes.iter().copied().zip(newest));
        if !late_times.is_empty() {
            self.late.add(&mut late_times);
        }
        !late_times.is_empty()
    }
}
