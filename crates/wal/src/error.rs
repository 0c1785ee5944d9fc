//! What can go wrong with the log, and what the caller can do about it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Damage, Lsn, PAYLOAD_BYTES_MAX};

/// An error of the log. It can be cloned, because one failed flush answers every writer of its group.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// An operation on a file or a directory failed. After a failed append the log tries again with the next
    /// one, so a caller may repeat the write when there is room again.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, for example `write to`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// A request to the object store failed, after retries. The next append tries again.
    #[error("cannot {action} object {path}: {source}")]
    ObjectStore {
        /// What was tried, for example `write`.
        action: &'static str,
        /// The object's path.
        path: String,
        /// The error of the object store.
        source: Arc<object_store::Error>,
    },
    /// Bytes that a crash can't explain. The log refuses to open; restore the file or remove it knowingly.
    #[error("{} is damaged at byte {}: {}", path.display(), damage.offset, damage.kind)]
    Damaged {
        /// The file or object.
        path: PathBuf,
        /// Where, and in which way.
        damage: Damage,
    },
    /// Records between two segments, or before the first one, are not there. The log refuses to open.
    #[error(
        "{} starts with record {found} but record {expected} should come first: a segment is missing",
        path.display()
    )]
    Gap {
        /// The segment before which records are missing.
        path: PathBuf,
        /// The record that should be there.
        expected: Lsn,
        /// The record that is there.
        found: Lsn,
    },
    /// The log ends before the position from which it was to be replayed. The log refuses to open.
    #[error(
        "{} ends with record {last} but records up to {expected} were durable: segments are missing",
        path.display()
    )]
    EndsEarly {
        /// The last segment.
        path: PathBuf,
        /// The last record there is.
        last: Lsn,
        /// The record that must be there at least.
        expected: Lsn,
    },
    /// A file in the log's place that the log did not write. The log refuses to open; move it away.
    #[error("{} is not a segment of the log: its name is not a record number", path.display())]
    UnexpectedFile {
        /// The file or object.
        path: PathBuf,
    },
    /// Another process holds the directory. Stop it, or use another directory.
    #[error("the log directory {} is in use by another process{}", path.display(), holder_text(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id of the holder, if it is known.
        holder: Option<u32>,
    },
    /// The object to be written exists and is not ours. Final: every later append fails with this error.
    #[error("object {path} exists already: another process writes to the log with the same node id")]
    ForeignWriter {
        /// The object's path.
        path: String,
    },
    /// Records after the requested position were removed. Start from [`Wal::first_lsn`](crate::Wal::first_lsn)
    /// and report what was missed.
    #[error("records after {after} were removed from the log: the first one left is {first}")]
    Removed {
        /// The position asked for.
        after: Lsn,
        /// The first record there is.
        first: Lsn,
    },
    /// The payload of an append is too long; nothing was written.
    #[error("a payload of {payload_bytes} bytes is longer than the {PAYLOAD_BYTES_MAX} a record can hold")]
    PayloadTooLarge {
        /// Its length.
        payload_bytes: usize,
    },
    /// The replay callback refused a record. The log is not opened.
    #[error("cannot replay record {lsn}: {source}")]
    Replay {
        /// The record.
        lsn: Lsn,
        /// The error of the callback.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The thread of the log could not be started.
    #[error("cannot start the log thread: {source}")]
    Thread {
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The log was shut down; nothing more can be appended.
    #[error("the log is shut down")]
    Closed,
    /// The log thread ended by a panic; whether the record is durable is not known. Restart the process.
    #[error("the log thread has stopped")]
    Stopped,
}

impl WalError {
    /// Whether no later append can succeed.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::ForeignWriter { .. } | Self::Closed | Self::Stopped)
    }

    /// For `map_err`: puts what was tried, and on which file, to an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }

    /// For `map_err`: puts what was tried, and on which object, to an object store's error.
    pub(crate) fn object(
        action: &'static str,
        path: &object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::ObjectStore {
            action,
            path: path.to_string(),
            source: Arc::new(source),
        }
    }
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
