//! Rows of the buffer that a delete removes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tidemill_catalog::ColumnId;

use crate::buffer::batch::memory_size;
use crate::buffer::table_buffer::{BatchList, TableBuffer};
use crate::{RowDelete, StoredBatch};

/// What a delete leaves of a batch.
enum Rest {
    /// All rows.
    Same,
    /// These.
    Fewer(Arc<StoredBatch>),
    /// None.
    Nothing,
}

/// What a delete leaves of the batches that were looked at. It keeps them alive, so that an address stands for one batch.
type Rests = HashMap<*const StoredBatch, (Arc<StoredBatch>, Rest), RandomState>;

impl TableBuffer {
    /// Removes rows; a reader sees all of them or none. Called in log order by whoever applies commits. Returns true when
    /// the table has become worth merging and is not queued for it.
    pub(crate) fn delete_rows(&self, delete: &Arc<RowDelete>) -> bool {
        let mut rests = Rests::default();
        loop {
            let mut list = self.list.lock();
            if list.is_dropped {
                return false;
            }
            // The merger may have replaced some meanwhile, but without new commits it comes to an end soon.
            let unseen: Vec<Arc<StoredBatch>> = list
                .batches
                .iter()
                .filter(|batch| !rests.contains_key(&Arc::as_ptr(batch)))
                .cloned()
                .collect();
            if unseen.is_empty() {
                let bytes_before = list.column_bytes;
                list.keep(&rests);
                list.await_delete(delete);
                self.total_bytes.fetch_add(list.column_bytes, Ordering::Relaxed);
                self.total_bytes.fetch_sub(bytes_before, Ordering::Relaxed);
                return !self.merge_is_queued.load(Ordering::Acquire)
                    && list.next_merge(self.merge_target).is_some();
            }
            // The lock is not held for as long as rows are copied.
            drop(list);
            for batch in unseen {
                let rest = rest_of(&batch, delete);
                rests.insert(Arc::as_ptr(&batch), (batch, rest));
            }
        }
    }
}

impl BatchList {
    /// Puts what is left in the place of each batch.
    fn keep(&mut self, rests: &Rests) {
        let batches = std::mem::take(&mut self.batches);
        let frozen_count = std::mem::take(&mut self.frozen_count);
        for (position, batch) in batches.into_iter().enumerate() {
            let kept = match rests.get(&Arc::as_ptr(&batch)) {
                None | Some((_, Rest::Same)) => batch,
                Some((_, Rest::Fewer(rest))) => Arc::clone(rest),
                Some((_, Rest::Nothing)) => continue,
            };
            self.frozen_count += usize::from(position < frozen_count);
            self.batches.push(kept);
        }
        self.row_count = self.batches.iter().map(|batch| batch.row_count).sum();
        self.column_bytes = self.batches.iter().map(|batch| batch.byte_size).sum();
        // What was full may have become small.
        self.settled_count = 0;
    }

    /// Notes a delete for the files that may hold rows of it, those that are being made included: these have the frozen
    /// rows as they were.
    pub(super) fn await_delete(&mut self, delete: &Arc<RowDelete>) {
        if !self.deletes.contains(delete) {
            self.deletes = self.deletes.iter().chain([delete]).cloned().collect();
            self.forget_done_deletes();
        }
    }
}

fn rest_of(batch: &StoredBatch, delete: &RowDelete) -> Rest {
    debug_assert!(batch.lsn_last < delete.lsn, "what was written later stays");
    if batch.time_max < delete.time_first || delete.time_last < batch.time_min {
        return Rest::Same;
    }
    let times = batch.times();
    let Some(removed) = delete.removed_rows(times, |id| batch.column(id)) else {
        return Rest::Same;
    };
    let kept = !&removed;
    if kept.count_set_bits() == 0 {
        return Rest::Nothing;
    }
    Rest::Fewer(Arc::new(filtered(batch, times, kept)))
}

/// The rows of a batch whose bit is set; there is one at least.
fn filtered(batch: &StoredBatch, times: &[i64], kept: BooleanBuffer) -> StoredBatch {
    let lsn_runs = filtered_runs(&batch.lsn_runs, &kept);
    let kept_times = || kept.set_indices().map(|row| times[row]);
    let (time_min, time_max) = (kept_times().min(), kept_times().max());
    let row_count = kept.count_set_bits();
    let filter = FilterBuilder::new(&BooleanArray::new(kept.clone(), None))
        .optimize()
        .build();
    let filtered_column = |(id, array): &(ColumnId, ArrayRef)| {
        let array = filter.filter(array).expect("a column has a value for each row");
        // A column that no row has is absent.
        (array.logical_null_count() < row_count).then_some((*id, array))
    };
    let columns: Vec<(ColumnId, ArrayRef)> = batch.columns.iter().filter_map(filtered_column).collect();
    let lsn_of = |run: Option<&(u32, u64)>, otherwise: u64| run.map_or(otherwise, |(_, lsn)| *lsn);
    StoredBatch {
        lsn_first: lsn_of(lsn_runs.first(), batch.lsn_first),
        lsn_last: lsn_of(lsn_runs.last(), batch.lsn_last),
        lsn_runs,
        byte_size: memory_size(&columns),
        columns,
        row_count,
        time_column: batch.time_column,
        time_min: time_min.unwrap_or(batch.time_min),
        time_max: time_max.unwrap_or(batch.time_max),
    }
}

fn filtered_runs(runs: &[(u32, u64)], kept: &BooleanBuffer) -> Vec<(u32, u64)> {
    let mut start = 0;
    let mut filtered = Vec::with_capacity(runs.len());
    for (row_count, lsn) in runs {
        let run = kept.slice(start, *row_count as usize);
        start += *row_count as usize;
        let kept_count = run.count_set_bits();
        if kept_count > 0 {
            filtered.push((kept_count as u32, *lsn));
        }
    }
    filtered
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tidemill_catalog::{DatabaseId, TableId};

    use super::*;
    use crate::buffer::merge_plan::BatchSize;
    use crate::{DataFile, Effort, FileId};

    fn file(id: u64, time: (i64, i64), deletes_through: u64) -> Arc<DataFile> {
        Arc::new(DataFile {
            id: FileId(id),
            database: DatabaseId(1),
            table: TableId(1),
            path: "file".into(),
            byte_size: 1,
            checksum: 0,
            row_count: 1,
            time_min: time.0,
            time_max: time.1,
            lsn_first: 1,
            lsn_last: 5,
            deletes_through,
            effort: Effort::High,
            tail: None,
        })
    }

    #[test]
    fn a_delete_is_pending_once_where_a_file_may_hold_its_rows() {
        let target = BatchSize::default();
        let table = TableBuffer::new(TableId(1), Arc::new(AtomicUsize::new(0)), target, 1);
        table.list.lock().files = [file(1, (0, 9), 0), file(2, (20, 29), 8)].into();
        let delete = |lsn: u64, first: i64, last: i64| {
            Arc::new(RowDelete {
                lsn,
                database: DatabaseId(1),
                table: TableId(1),
                time_first: first,
                time_last: last,
                conditions: Vec::new(),
            })
        };
        for delete in [
            delete(7, 10, 19),
            delete(8, 20, 30),
            delete(9, 9, 9),
            delete(9, 9, 9),
            delete(10, 29, 40),
        ] {
            table.delete_rows(&delete);
        }
        let pending: Vec<u64> = table.snapshot().deletes.iter().map(|delete| delete.lsn).collect();
        assert_eq!(pending, [9, 10]);
    }

    #[test]
    fn runs_lose_the_rows_that_go() {
        let bits = |bits: &[bool]| bits.iter().copied().collect::<BooleanBuffer>();
        let kept = bits(&[true, false, false, false, true, true]);
        assert_eq!(filtered_runs(&[(1, 3), (2, 4), (3, 9)], &kept), [(1, 3), (2, 9)]);
    }
}
