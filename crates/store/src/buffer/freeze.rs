//! How rows of the buffer become files without a moment in which a query sees them twice or not at all.
//!
//! A *mark* at a place in the log divides the list of batches. Those before it are frozen: they are read as ever, and
//! are not merged any more, while somebody writes them to files. When the files are durable and in the manifest they
//! take the place of these batches in one step under the lock of the list. Until then nothing has happened: taking the
//! mark back leaves the list as it was.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemill_catalog::TableId;

use crate::buffer::series_times::SeriesTimes;
use crate::buffer::table_buffer::{BatchList, TableBuffer};
use crate::{DataFile, FileId, RowDelete, StoredBatch};

/// Everything that the buffer held at a place in the log. What it holds is read by queries until
/// [`Store::install_snapshot`](crate::Store::install_snapshot) or [`Store::thaw`](crate::Store::thaw) is called.
#[derive(Debug)]
pub struct Frozen {
    /// The place: all rows up to and including this record, and no others.
    pub lsn: u64,
    /// Each table that has rows, ascending by id.
    pub tables: Vec<FrozenTable>,
    /// The deletes that a file of some table awaits, in log order. Those of the manifest are among them.
    pub deletes: Vec<Arc<RowDelete>>,
}

impl Frozen {
    /// Memory of the batches in bytes.
    pub fn byte_size(&self) -> usize {
        self.tables.iter().map(|table| table.byte_size).sum()
    }

    /// Rows in all batches, those of one point counted each.
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(|table| table.row_count).sum()
    }
}

/// The frozen rows of one table.
#[derive(Debug, Clone)]
pub struct FrozenTable {
    /// The table.
    pub table: TableId,
    /// In log order; rows of one batch are in log order too. Never empty.
    pub batches: Vec<Arc<StoredBatch>>,
    /// Rows in all batches.
    pub row_count: usize,
    /// Memory of the batches in bytes.
    pub byte_size: usize,
}

impl TableBuffer {
    /// Sets the mark behind the last batch. Returns what is before it, if that is anything, and the deletes that files
    /// await.
    pub(crate) fn freeze(&self, lsn: u64) -> (Option<FrozenTable>, Arc<[Arc<RowDelete>]>) {
        let mut series = self.series.lock();
        let mut list = self.list.lock();
        debug_assert!(
            list.batches.last().is_none_or(|last| last.lsn_last <= lsn),
            "the mark is behind all rows"
        );
        list.mark = Some(lsn);
        list.frozen_count = list.batches.len();
        series.behind_mark = Some(SeriesTimes::new(self.late_windows_max));
        let frozen = (!list.batches.is_empty()).then(|| FrozenTable {
            table: self.table(),
            batches: list.batches.clone(),
            row_count: list.row_count,
            byte_size: list.column_bytes,
        });
        (frozen, Arc::clone(&list.deletes))
    }

    /// The place of the mark in the log, while there is one.
    pub(crate) fn mark(&self) -> Option<u64> {
        self.list.lock().mark
    }

    /// Takes the mark back.
    pub(crate) fn thaw(&self) {
        let mut series = self.series.lock();
        let mut list = self.list.lock();
        list.mark = None;
        list.frozen_count = 0;
        series.behind_mark = None;
        list.set_series_bytes(series.byte_size(), &self.total_bytes);
        list.forget_done_deletes();
    }

    /// Puts files in the place of the rows before the mark, and takes it back.
    pub(crate) fn install_snapshot(&self, files: &[Arc<DataFile>]) {
        let mut series = self.series.lock();
        let mut list = self.list.lock();
        if list.mark.take().is_none() {
            // Made behind the mark, or dropped.
            return;
        }
        let frozen_count = std::mem::take(&mut list.frozen_count);
        let gone: Vec<Arc<StoredBatch>> = list.batches.drain(..frozen_count).collect();
        list.settled_count = list.settled_count.saturating_sub(frozen_count);
        let row_count: usize = gone.iter().map(|batch| batch.row_count).sum();
        let column_bytes: usize = gone.iter().map(|batch| batch.byte_size).sum();
        list.row_count -= row_count;
        list.column_bytes -= column_bytes;
        self.total_bytes.fetch_sub(column_bytes, Ordering::Relaxed);
        let behind_mark = series.behind_mark.take();
        let before = behind_mark.map(|behind_mark| std::mem::replace(&mut series.all, behind_mark));
        list.late = series.all.late().to_vec();
        list.set_series_bytes(series.byte_size(), &self.total_bytes);
        list.change_files(&[], files);
        list.forget_done_deletes();
        drop(list);
        drop(series);
        // Outside of the locks: to free them takes its time.
        drop((gone, before));
    }

    /// Changes the list of files; does nothing to a table that was dropped.
    pub(crate) fn install(&self, removed: &[FileId], added: &[Arc<DataFile>]) {
        let mut list = self.list.lock();
        if list.is_dropped {
            return;
        }
        list.change_files(removed, added);
        list.forget_done_deletes();
    }

    /// Notes a delete for the files that may hold rows of it, those that are being made included.
    pub(crate) fn await_delete(&self, delete: &Arc<RowDelete>) {
        self.list.lock().await_delete(delete);
    }
}

impl BatchList {
    fn change_files(&mut self, removed: &[FileId], added: &[Arc<DataFile>]) {
        if removed.is_empty() && added.is_empty() {
            return;
        }
        let kept = self.files.iter().filter(|file| !removed.contains(&file.id));
        let mut files: Vec<Arc<DataFile>> = kept.chain(added).cloned().collect();
        files.sort_by_key(|file| (file.lsn_first, file.time_min, file.id));
        self.files = files.into();
    }

    /// Leaves out the deletes that no file awaits, nor one that is being made.
    pub(super) fn forget_done_deletes(&mut self) {
        let (files, mark) = (&self.files, self.mark);
        let is_awaited = |delete: &Arc<RowDelete>| {
            mark.is_some_and(|mark| delete.lsn > mark) || files.iter().any(|file| delete.concerns(file))
        };
        if !self.deletes.iter().all(is_awaited) {
            let awaited = self.deletes.iter().filter(|delete| is_awaited(delete));
            self.deletes = awaited.cloned().collect();
        }
    }
}
