//! The buffer of all tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use tidemill_catalog::TableId;

use crate::buffer::merge_plan::BatchSize;
use crate::buffer::merger::Merger;
use crate::buffer::table_buffer::{SharedByteCount, TableBuffer};
use crate::{StoreStats, TableBatch, TableSnapshot};

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
    tables: RwLock<HashMap<TableId, Arc<TableBuffer>>>,
    total_bytes: SharedByteCount,
    merger: Merger,
}

impl Store {
    /// An empty buffer, with a thread for merging that sleeps while there is nothing to do.
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            tables: RwLock::default(),
            total_bytes: Arc::new(AtomicUsize::new(0)),
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

    /// The rows of a table as they are now; empty for a table that nothing was written to. Cheap: no row is copied.
    pub fn scan(&self, table: TableId) -> TableSnapshot {
        let buffer = self.tables.read().get(&table).cloned();
        buffer.map(|buffer| buffer.snapshot()).unwrap_or_default()
    }

    /// Forgets all rows of a table. Snapshots taken before keep theirs.
    pub fn drop_table(&self, table: TableId) {
        let buffer = self.tables.write().remove(&table);
        if let Some(buffer) = buffer {
            buffer.drop_rows();
        }
    }

    /// Memory of all rows and of what is known about their series, in bytes; costs nothing.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// The buffer in numbers; not one moment for all tables.
    pub fn stats(&self) -> StoreStats {
        let buffers: Vec<Arc<TableBuffer>> = self.tables.read().values().cloned().collect();
        let mut tables: Vec<_> = buffers.iter().map(|buffer| buffer.stats()).collect();
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
