//! When the buffer becomes files, and how much of the log is kept.

use std::time::Duration;

const MEBIBYTE: usize = 1024 * 1024;

/// Limits of the buffer and of the log.
#[derive(Debug, Clone)]
pub struct SnapshotConfig {
    /// Memory of the buffer from which on a snapshot is made.
    pub buffer_bytes_soft: usize,
    /// Memory of the buffer, rows that are being made into files counted twice, from which on writers wait, and then are
    /// refused. Requests that are let in go beyond it by what they write.
    pub buffer_bytes_max: usize,
    /// How long a writer waits for room.
    pub room_wait_max: Duration,
    /// How many writers wait for room; further ones are refused at once.
    pub room_waiting_max: usize,
    /// Bytes of the log since the last snapshot from which on another is made: a start replays no more than about that.
    pub log_bytes_max: u64,
    /// How long rows stay in the buffer, whatever their number.
    pub age_max: Duration,
    /// Files of the largest size written at once; of smaller ones, as many more as take no more memory.
    pub concurrency: usize,
    /// About so much of the buffer becomes one file.
    pub part_bytes_max: usize,
    /// Bytes of the log that are kept for triggers alone; beyond it the oldest go and the triggers that have not read
    /// them are moved on.
    pub backlog_bytes_max: u64,
    /// Segments of the log that are kept although nobody needs them.
    pub segments_kept: usize,
}

impl SnapshotConfig {
    /// The limits that follow from the memory of the buffer.
    #[must_use]
    pub fn with_buffer_bytes_max(self, buffer_bytes_max: usize) -> Self {
        Self {
            buffer_bytes_soft: buffer_bytes_max / 2,
            buffer_bytes_max,
            // A snapshot that begins at half of the buffer has two parts for each thread.
            part_bytes_max: (buffer_bytes_max / 4 / self.concurrency.max(1)).clamp(MEBIBYTE, 256 * MEBIBYTE),
            ..self
        }
    }
}

impl Default for SnapshotConfig {
    /// A gibibyte of memory, half a gibibyte of log, ten minutes; ten gibibytes for triggers.
    fn default() -> Self {
        let limits = Self {
            buffer_bytes_soft: 0,
            buffer_bytes_max: 0,
            room_wait_max: Duration::from_secs(5),
            room_waiting_max: 1024,
            log_bytes_max: 512 << 20,
            age_max: Duration::from_mins(10),
            concurrency: std::thread::available_parallelism().map_or(2, usize::from),
            part_bytes_max: 0,
            backlog_bytes_max: 10 << 30,
            segments_kept: 0,
        };
        limits.with_buffer_bytes_max(1024 * MEBIBYTE)
    }
}
