//! What can go wrong in the background.

use crate::{FileError, ManifestError};

/// Why a step of compaction did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest could not be changed. After [`ManifestError::Conflict`] the process must stop.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The object store could not list or remove objects.
    #[error("cannot {action}: {source}")]
    Objects {
        /// What was tried.
        action: &'static str,
        /// The store's reason.
        source: object_store::Error,
    },
}

impl CompactionError {
    /// Whether another process has taken over: this one must not go on.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Manifest(ManifestError::Conflict { .. }))
    }
}
