//! Everything a log can fail with.

use object_store::path::Path;
use thiserror::Error;

/// Why a change was not made, or why a log does not open.
#[derive(Debug, Error)]
pub enum LogError {
    /// Another process writes to the same log. This process must stop.
    #[error(
        "record {sequence} was written by another process: is a second server running with this node id?"
    )]
    Conflict {
        /// Sequence number that both wanted.
        sequence: u64,
    },
    /// Nothing of this change was done, since an earlier one whose outcome was unknown turned out to be durable and took
    /// its place; it is in effect now. Try again. Does not happen with [`OnFailure::Insist`](crate::OnFailure::Insist).
    #[error("an earlier change took effect late, try again")]
    Superseded,
    /// An object is damaged, missing or of another version. Nothing was changed; restore the object.
    #[error("object '{object}' is unusable: {reason}")]
    Corrupt {
        /// Path of the object in the store.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object store failed. The state is as before; the change may be tried again.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
}

impl LogError {
    pub(crate) fn corrupt(object: &Path, reason: String) -> Self {
        Self::Corrupt {
            object: object.to_string(),
            reason,
        }
    }
}
