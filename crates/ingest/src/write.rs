//! A write request and what can become of it.

use bytes::Bytes;
use tidemill_catalog::{CatalogError, DatabaseNameError};
use tidemill_lineproto::{LineError, Precision};
use tidemill_wal::{Lsn, WalError};

use crate::progress::TriggerProgress;
use crate::snapshots::is_disk_full;

pub use tidemill_catalog::Strictness as NameRule;

/// Line protocol for one database.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// Database; created where it does not exist.
    pub database: String,
    /// Line protocol.
    pub body: Bytes,
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Keep the good lines where there are bad ones.
    pub accept_partial: bool,
    /// Answer before the data is durable.
    pub no_sync: bool,
    /// Time of arrival in nanoseconds since the epoch: the timestamp of lines without one.
    pub received_ns: i64,
    /// Rule for the database name.
    pub name_rule: NameRule,
    /// Through how many triggers the rows have come, 0 for what a client writes: [`Commit::depth`](crate::Commit::depth).
    pub depth: u16,
}

/// Line protocol that a plugin's run wrote to one database: nanoseconds, all or nothing.
#[derive(Debug, Clone)]
pub struct DatabaseLines {
    /// Database; created where it does not exist.
    pub database: String,
    /// Line protocol.
    pub lines: Bytes,
}

/// What one run of a trigger leaves behind, to be committed as one record.
#[derive(Debug, Clone)]
pub struct RunCommit {
    /// What it wrote.
    pub writes: Vec<DatabaseLines>,
    /// Whose run it was, with its position and what changes in its state.
    pub progress: TriggerProgress,
    /// Through how many triggers the rows have come, this one counted: [`Commit::depth`](crate::Commit::depth).
    pub depth: u16,
    /// The timestamp of lines without one, in nanoseconds since the epoch.
    pub received_ns: i64,
}

/// A write that was carried out, wholly or for its good lines.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// Place in the log; `None` where no line was good, or where the answer did not wait for it (`no_sync`).
    pub lsn: Option<Lsn>,
    /// Rows written.
    pub rows: usize,
    /// Bad lines, by line number; at most [`ERRORS_MAX`](tidemill_lineproto::ERRORS_MAX), and none unless
    /// `accept_partial`.
    pub rejected: Vec<LineError>,
    /// How many lines were bad, described in `rejected` or not.
    pub rejected_count: usize,
}

/// A write of which nothing was carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The name breaks the rule.
    #[error(transparent)]
    InvalidDatabaseName(#[from] DatabaseNameError),
    /// The body has no data line.
    #[error("incoming write was empty")]
    Empty,
    /// The body is not UTF-8.
    #[error("body content is not valid utf8: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// A line is bad and the request is all or nothing. Never empty; by line number, at most
    /// [`ERRORS_MAX`](tidemill_lineproto::ERRORS_MAX).
    #[error("line protocol parse failed: {}", .0.first().map_or("", |error| error.message.as_str()))]
    Rejected(Vec<LineError>),
    /// The catalog refused the schema change or failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state of a trigger would become too large.
    #[error("the state of the trigger would take {bytes} bytes, more than the {bytes_max} that it may")]
    StateTooLarge {
        /// Its size with the changes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The memory for rows is used up; the write may be tried again when files have taken them.
    #[error(
        "write buffer is full: {bytes} bytes wait to be written to files, the limit is {bytes_max} \
         (--force-snapshot-mem-threshold); try again later"
    )]
    BufferFull {
        /// Memory that is in use.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The log failed; the write may be tried again.
    #[error("write buffer error: error from wal: {0}")]
    Wal(#[from] WalError),
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl WriteError {
    /// Whether the write failed for want of memory or of space on the disk: it may succeed later as it is.
    pub fn is_out_of_room(&self) -> bool {
        match self {
            Self::BufferFull { .. } => true,
            Self::Wal(error) => is_disk_full(error),
            Self::Catalog(error) => error.is_out_of_room(),
            _ => false,
        }
    }
}
