//! What can go wrong with a file.

use std::ops::Range;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::DataFile;

/// What is wrong with the object of a file. Everybody who finds it says it in these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileDamage {
    /// There is no object.
    #[error("it is missing")]
    Missing,
    /// It is longer or shorter than it was written.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// Its length.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// Somewhere in this range are other bytes than were written.
    #[error("its checksum does not match at bytes {}..{}", .0.start, .0.end)]
    Checksum(Range<u64>),
    /// Its bytes are not those of a Parquet file with the table's columns; Parquet's reason.
    #[error("it cannot be read: {0}")]
    Undecodable(String),
    /// Decoding it panicked, with this message.
    #[error("reading it ends in a panic: {0}")]
    Panic(String),
}

impl FileDamage {
    /// Something of the file is to be at `position`, which is not in it.
    pub(crate) fn beyond_end(position: u64, file: &DataFile) -> Self {
        Self::Undecodable(format!(
            "byte {position} is asked for, and it has {}",
            file.byte_size
        ))
    }

    /// From what a caught panic left.
    pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panic(text.unwrap_or_default())
    }
}

/// Why a file, or rows on their way into one, could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The object store failed; trying again may help.
    #[error("cannot {action} object '{path}': {source}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// The object is not the Parquet file that the manifest describes; it must come back from a backup.
    #[error(
        "file '{path}' is damaged: {damage}; 'tidemill verify' says what else is, and a backup has the file as it was"
    )]
    Damaged {
        /// Path of the object.
        path: String,
        /// What is wrong with it.
        damage: FileDamage,
    },
    /// Rows could not be encoded.
    #[error("cannot encode file '{path}': {source}")]
    Encode {
        /// Path that the object was to have.
        path: String,
        /// What Parquet says.
        source: ParquetError,
    },
    /// Rows do not have the columns they should have: a mistake in this program, or a damaged file.
    #[error("rows have other columns than expected: {0}")]
    Columns(String),
    /// Rows do not come in the order of their points: a mistake in this program, or a damaged file.
    #[error("rows are not in the order of tags and time: {0}")]
    Unsorted(String),
    /// More rows or text than what is addressed at once.
    #[error("too much at once: {0}")]
    TooMuch(String),
    /// Arrow refused something.
    #[error("cannot process rows: {0}")]
    Arrow(#[from] ArrowError),
    /// The source of the rows failed.
    #[error(transparent)]
    Input(Box<dyn std::error::Error + Send + Sync>),
    /// The thread that encoded was stopped: the program is ending, or it panicked.
    #[error("the encoding of file '{path}' was given up: {reason}")]
    Stopped {
        /// Path that the object was to have.
        path: String,
        /// What became of the thread.
        reason: String,
    },
}
