//! What can go wrong with a file.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

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
    /// The object is not the Parquet file that the manifest describes: it is damaged.
    #[error("cannot read file '{path}': {source}")]
    Damaged {
        /// Path of the object.
        path: String,
        /// What Parquet says.
        source: ParquetError,
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
