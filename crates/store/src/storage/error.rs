//! Why storage does not open, or why rows did not become files.

use thiserror::Error;

use crate::{FileError, ManifestError};

/// Why the storage of a node does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The manifest cannot be read or written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The progress of the triggers cannot be read. Without it they would run again what they have run.
    #[error("cannot read the progress of the triggers, object '{path}': {source}")]
    Progress {
        /// Path of the object.
        path: String,
        /// The store's reason.
        source: object_store::Error,
    },
}

/// Why rows of the buffer did not become files. They are in the buffer and in the log as before; what was written is
/// removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FlushError {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest did not take the files.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The progress of the triggers could not be written.
    #[error("cannot write the progress of the triggers, object '{path}': {source}")]
    Progress {
        /// Path of the object.
        path: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl FlushError {
    /// Whether no later attempt can succeed: another process has taken this node's place.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Manifest(ManifestError::Conflict { .. }))
    }
}
