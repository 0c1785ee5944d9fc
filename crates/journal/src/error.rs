//! What can go wrong with a journal, and what the caller can do about it.

use std::sync::Arc;

use object_store::path::Path;

/// An error of a journal. [`Journal::append`](crate::Journal::append) has none.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The schema cannot be that of a journal, or the rows are not of its schema. A mistake of the caller; nothing was done.
    #[error("not rows of this journal: {reason}")]
    Schema {
        /// What does not fit.
        reason: String,
    },
    /// A request to the object store failed. Rows in memory stay there; the call may be repeated.
    #[error("cannot {action} {path}: {source}")]
    Store {
        /// What was tried, for example `write`.
        action: &'static str,
        /// The object or folder.
        path: String,
        /// The error of the object store.
        source: Arc<object_store::Error>,
    },
    /// Rows could not be made an object. Those that were to be flushed are dropped.
    #[error("cannot encode rows as parquet: {reason}")]
    Encode {
        /// Why.
        reason: String,
    },
}

impl JournalError {
    /// For `map_err`: puts what was tried, and on which object, to an object store's error.
    pub(crate) fn store(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Store {
            action,
            path: path.to_string(),
            source: Arc::new(source),
        }
    }
}
