//! What compaction did.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_catalog::{DatabaseId, TableId};

use crate::compaction::CompactionReason;

/// Jobs that are remembered one by one.
const RECORDS_MAX: usize = 1000;

/// One job that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionRecord {
    /// When it was done, nanoseconds since the epoch.
    pub finished_ns: i64,
    /// Whose files.
    pub database: DatabaseId,
    /// Whose files.
    pub table: TableId,
    /// Why.
    pub reason: CompactionReason,
    /// Files that were replaced.
    pub files_in: u64,
    /// Files that took their place.
    pub files_out: u64,
    /// Bytes of the objects that were replaced.
    pub bytes_in: u64,
    /// Bytes of the new objects.
    pub bytes_out: u64,
    /// Rows that were replaced; those of one point in several files are counted each.
    pub rows_in: u64,
    /// Rows of the new files.
    pub rows_out: u64,
    /// From the beginning to the end, pauses included.
    pub duration: Duration,
}

/// What compaction did since the process began; nothing of it is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Jobs that were done.
    pub jobs: u64,
    /// Steps that failed.
    pub failures: u64,
    /// Files that were replaced.
    pub files_in: u64,
    /// Files that took their place.
    pub files_out: u64,
    /// Bytes of the objects that were replaced.
    pub bytes_in: u64,
    /// Bytes of the new objects.
    pub bytes_out: u64,
    /// Rows that were replaced.
    pub rows_in: u64,
    /// Rows of the new files.
    pub rows_out: u64,
    /// Time that jobs took, pauses included.
    pub busy: Duration,
    /// Objects of replaced files that were removed.
    pub garbage_removed: u64,
    /// Objects that no manifest record named and that were removed.
    pub orphans_removed: u64,
    /// Files that could not be rewritten since they are damaged.
    pub damaged_files: u64,
}

/// The last jobs, and sums over all.
#[derive(Debug, Default)]
pub(crate) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<CompactionRecord>,
    stats: CompactionStats,
}

impl History {
    pub(crate) fn add(&self, record: CompactionRecord) {
        let mut inner = self.inner.lock();
        let stats = &mut inner.stats;
        stats.jobs += 1;
        stats.files_in += record.files_in;
        stats.files_out += record.files_out;
        stats.bytes_in += record.bytes_in;
        stats.bytes_out += record.bytes_out;
        stats.rows_in += record.rows_in;
        stats.rows_out += record.rows_out;
        stats.busy += record.duration;
        if inner.records.len() == RECORDS_MAX {
            inner.records.pop_front();
        }
        inner.records.push_back(record);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut CompactionStats)) {
        change(&mut self.inner.lock().stats);
    }

    /// Oldest first.
    pub(crate) fn records(&self) -> Vec<CompactionRecord> {
        self.inner.lock().records.iter().cloned().collect()
    }

    pub(crate) fn stats(&self) -> CompactionStats {
        self.inner.lock().stats
    }
}
