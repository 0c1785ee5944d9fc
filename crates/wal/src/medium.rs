//! Where the bytes of the log live.

use std::sync::Arc;
use std::time::Duration;

use crate::{Lsn, Record, WalError};

/// How the log flushes and how much it holds.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// The least time between the starts of two flushes. Zero: a flush starts as soon as there is something to
    /// write and the flush before has ended. Set it where a flush is a paid request.
    pub flush_interval: Duration,
    /// A segment file that would grow beyond this many bytes is closed and a new one started. A group is never
    /// split, so a segment can be longer by the excess of one group.
    pub segment_bytes_max: u64,
    /// Appends wait while this many bytes are accepted but not yet durable. It is also the size of the largest
    /// group (unless one record alone is larger).
    pub pending_bytes_max: usize,
    /// Records up to this one are stored elsewhere and need no replay; the log must begin at or before the
    /// next one. [`Lsn::ZERO`]: the log must be whole from record 1.
    pub replay_after: Lsn,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            flush_interval: Duration::ZERO,
            segment_bytes_max: 64 << 20,
            pending_bytes_max: 64 << 20,
            replay_after: Lsn::ZERO,
        }
    }
}

/// What was found when the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// The last record; the next one appended gets the number after it.
    pub last: Lsn,
    /// How many records were replayed.
    pub records: u64,
    /// How many payload bytes were replayed.
    pub payload_bytes: u64,
    /// How many bytes of a torn write were cut from the end of the last segment.
    pub cut_bytes: u64,
    /// How many segments (files or objects) there are.
    pub segments: usize,
}

/// What is called with each record of a replay; an error ends it.
pub type Visitor<'a> = dyn FnMut(Lsn, &[u8]) -> Result<(), WalError> + 'a;

/// The place the log is written to. All calls block; they come from one thread at a time.
///
/// [`recover`](Self::recover) is called once, before everything else.
pub trait Medium: Send {
    /// Checks what is there, cuts a torn write at the end, and calls `visit` with every record after
    /// `config.replay_after`, in order. Memory use does not depend on the length of the log.
    ///
    /// When it returns, everything visited is durable.
    fn recover(&mut self, config: &WalConfig, visit: &mut Visitor<'_>) -> Result<Recovery, WalError>;

    /// Makes a group durable; `first` is the number of its first record and follows the last durable one.
    ///
    /// On an error nothing of the group counts as written, and the next call may bring other records with the
    /// same numbers.
    fn append(&mut self, first: Lsn, group: &[Record]) -> Result<(), WalError>;

    /// The handle through which other threads read and remove what is durable.
    fn durable_log(&self) -> Arc<dyn DurableLog>;
}

/// The durable part of a medium, usable from every thread while the log is appended to. All calls block.
pub trait DurableLog: Send + Sync {
    /// The first record of the oldest segment; `None` if there is no segment.
    fn first_lsn(&self) -> Option<Lsn>;

    /// The segments there are, oldest first: the first record of each, and its bytes as far as they are durable.
    fn segments(&self) -> Vec<(Lsn, u64)>;

    /// Records in `after < lsn <= until` in order, at most `bytes_max` payload bytes but at least one record
    /// (if there is one). The caller vouches that `until` is durable.
    ///
    /// Errors: [`WalError::Removed`] if the record after `after` is no longer there.
    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError>;

    /// Removes, oldest first, the segments whose records all are `< lsn`. The last segment always stays: it
    /// holds the place in the numbering. Returns how many were removed.
    fn remove_before(&self, lsn: Lsn) -> Result<usize, WalError>;
}
