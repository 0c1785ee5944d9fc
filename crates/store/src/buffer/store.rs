//! The buffer of all tables.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;
use tidemill_catalog::TableId;

use crate::buffer::merge_plan::BatchSize;
use crate::buffer::merger::Merger;
use crate::buffer::table_buffer::{SharedByteCount, TableBuffer};
use crate::{
    DataFile, FileId, Frozen, FrozenTable, ManifestState, RowDelete, StoreStats, TableBatch, TableFiles,
    TableSnapshot,
};

/// How the buffer behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Batches are merged up to so many rows.
    pub merged_rows_max: usize,
    /// Batches are merged up to so much memory.
    pub merged_bytes_max: usize,
    /// Windows of late rows kept apart, a table; beyond that the nearest are joined.
    pub late_windows_max: usize,
}

impl Default for StoreConfig {
    /// 128 Ki rows or 32 MiB a merged batch, 64 windows.
    fn default() -> Self {
        Self {
            merged_rows_max: 128 * 1024,
            merged_bytes_max: 32 * 1024 * 1024,
            late_windows_max: 64,
        }
    }
}

/// The memory buffer of all tables. Dropping it stops its background thread.
pub struct Store {
    config: StoreConfig,
    tables: RwLock<HashMap<TableId, Arc<TableBuffer>, RandomState>>,
    total_bytes: SharedByteCount,
    /// Of the rows that are being made into files.
    flushing_bytes: AtomicUsize,
    merger: Merger,
}

impl Store {
    /// An empty buffer, with a thread for merging that sleeps while there is nothing to do.
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            tables: RwLock::default(),
            total_bytes: Arc::new(AtomicUsize::new(0)),
            flushing_bytes: AtomicUsize::new(0),
            merger: Merger::start(),
        }
    }

    /// Appends what a commit wrote to one table; it is in every scan from now on. Commits must come in log order, from
    /// one thread at a time. Rows of a table that is dropped at the same moment may be lost with it.
    ///
    /// # Panics
    /// When the batch contradicts itself (see [`TableBatch::times`]).
    pub fn apply(&self, lsn: u64, batch: &Arc<TableBatch>) {
        let table = self.table_buffer(batch.table);
        if table.apply(lsn, batch) {
            self.merger.queue(&table);
        }
    }

    /// Removes the rows of a table that were applied before and satisfy the conditions: no later scan has any of them in
    /// its batches, and the delete is among [`TableSnapshot::deletes`] where a file may hold such rows. Comes in log order
    /// with the commits, from the same thread.
    ///
    /// # Panics
    /// When a condition is on a column that is not a tag.
    pub fn apply_delete(&self, delete: &RowDelete) {
        let table = self.tables.read().get(&delete.table).cloned();
        // Without a buffer there are neither rows nor files.
        let Some(table) = table else { return };
        if table.delete_rows(&Arc::new(delete.clone())) {
            self.merger.queue(&table);
        }
    }

    /// The rows of a table as they are now; empty for a table that nothing was written to. Cheap: no row is copied.
    pub fn scan(&self, table: TableId) -> TableSnapshot {
        let buffer = self.tables.read().get(&table).cloned();
        buffer.map(|buffer| buffer.snapshot()).unwrap_or_default()
    }

    /// The files of a table as they are now. Cheaper than [`scan`](Self::scan) where rows in memory do not matter.
    pub fn files_of(&self, table: TableId) -> TableFiles {
        let buffer = self.tables.read().get(&table).cloned();
        buffer.map(|buffer| buffer.files()).unwrap_or_default()
    }

    /// Forgets all rows and files of a table. Snapshots taken before keep theirs.
    pub fn drop_table(&self, table: TableId) {
        let buffer = self.tables.write().remove(&table);
        if let Some(buffer) = buffer {
            buffer.drop_rows();
        }
    }

    /// Sets a mark behind all rows: nothing is merged across it, and what is before it is returned, to be made into
    /// files. `lsn` is the last commit applied; the caller keeps commits from being applied meanwhile. Queries go on as
    /// ever. There is one mark at a time: [`install_snapshot`](Self::install_snapshot) or [`thaw`](Self::thaw) removes it.
    pub fn freeze(&self, lsn: u64) -> Frozen {
        let (mut tables, mut deletes): (Vec<FrozenTable>, Vec<Arc<RowDelete>>) = Default::default();
        for buffer in self.buffers() {
            let (frozen, awaited) = buffer.freeze(lsn);
            tables.extend(frozen);
            deletes.extend(awaited.iter().cloned());
        }
        tables.sort_unstable_by_key(|frozen| frozen.table);
        deletes.sort_by_key(|delete| delete.lsn);
        Frozen { lsn, tables, deletes }
    }

    /// Removes the mark: the rows before it stay in the buffer.
    pub fn thaw(&self) {
        for buffer in self.buffers() {
            buffer.thaw();
            if buffer.batches_to_merge().is_some() {
                self.merger.queue(&buffer);
            }
        }
    }

    /// Puts files in the place of what is before the mark, and removes the mark: to queries of one table in one step. A
    /// table that has no file among them has lost its rows. Files of tables that were dropped are left out.
    pub fn install_snapshot(&self, files: &HashMap<TableId, Vec<Arc<DataFile>>>) {
        for buffer in self.buffers() {
            let files = files.get(&buffer.table()).map_or(&[][..], Vec::as_slice);
            buffer.install_snapshot(files);
        }
    }

    /// Changes the files of a table, in one step: those of a compaction take the place of the ones it has merged.
    pub fn install(&self, table: TableId, removed: &[FileId], added: &[Arc<DataFile>]) {
        let known = self.tables.read().get(&table).cloned();
        match known {
            Some(buffer) => buffer.install(removed, added),
            None if added.is_empty() => {}
            None => self.table_buffer(table).install(removed, added),
        }
    }

    /// Takes over the files and deletes of a manifest, at the start of a server.
    pub fn load(&self, state: &ManifestState) {
        for (table, files) in state.files_by_table() {
            self.table_buffer(table).install(&[], &files);
        }
        for delete in state.deletes() {
            self.await_delete(delete);
        }
    }

    /// Has the files of a table await a delete that is later in the log than they are. Called in log order, by whoever
    /// applies the delete to the rows in memory.
    pub fn await_delete(&self, delete: &Arc<RowDelete>) {
        if let Some(buffer) = self.tables.read().get(&delete.table).cloned() {
            buffer.await_delete(delete);
        }
    }

    /// Whether a table has the mark at this place in the log: not if it was dropped, or made, since.
    pub(crate) fn is_frozen(&self, table: TableId, lsn: u64) -> bool {
        let buffer = self.tables.read().get(&table).cloned();
        buffer.is_some_and(|buffer| buffer.mark() == Some(lsn))
    }

    /// Whether there are rows that no file holds.
    pub fn has_rows(&self) -> bool {
        self.buffers().iter().any(|buffer| buffer.has_rows())
    }

    /// Memory of all rows and of what is known about their series, in bytes; costs nothing.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// [`Self::total_bytes`], and once more those of the rows that are being made into files at this moment: to encode
    /// them takes memory too, and less than they have.
    pub fn occupied_bytes(&self) -> usize {
        self.total_bytes() + self.flushing_bytes()
    }

    /// Bytes of the rows that are being made into files.
    pub(crate) fn flushing_bytes(&self) -> usize {
        self.flushing_bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes as such until the answer is dropped.
    pub(crate) fn count_flushing(&self, bytes: usize) -> FlushingBytes<'_> {
        self.flushing_bytes.fetch_add(bytes, Ordering::Relaxed);
        FlushingBytes {
            count: &self.flushing_bytes,
            bytes,
        }
    }

    /// The buffer in numbers; not one moment for all tables.
    pub fn stats(&self) -> StoreStats {
        let mut tables: Vec<_> = self.buffers().iter().map(|buffer| buffer.stats()).collect();
        tables.sort_unstable_by_key(|table| table.table);
        let bytes = tables
            .iter()
            .map(|table| table.column_bytes + table.series_bytes)
            .sum();
        StoreStats { bytes, tables }
    }

    /// Blocks until nothing is left to merge, provided that nothing is written meanwhile. For tests and measurements.
    pub fn settle(&self) {
        self.merger.settle();
    }

    fn buffers(&self) -> Vec<Arc<TableBuffer>> {
        self.tables.read().values().cloned().collect()
    }

    fn table_buffer(&self, table: TableId) -> Arc<TableBuffer> {
        if let Some(buffer) = self.tables.read().get(&table) {
            return Arc::clone(buffer);
        }
        let new_buffer = || {
            let merge_target = BatchSize {
                row_count: self.config.merged_rows_max,
                byte_size: self.config.merged_bytes_max,
            };
            let total_bytes = Arc::clone(&self.total_bytes);
            Arc::new(TableBuffer::new(
                table,
                total_bytes,
                merge_target,
                self.config.late_windows_max,
            ))
        };
        Arc::clone(self.tables.write().entry(table).or_insert_with(new_buffer))
    }
}

/// Bytes of rows that are being made into a file.
pub(crate) struct FlushingBytes<'a> {
    count: &'a AtomicUsize,
    bytes: usize,
}

impl Drop for FlushingBytes<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
