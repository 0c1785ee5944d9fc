//! Everything that can go wrong with a backup.

use crate::stream::StreamError;

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is there already; nothing was written.
    #[error("{place} is not empty: name a new folder for the backup")]
    DestinationNotEmpty {
        /// Where the backup was to go.
        place: String,
    },
    /// What arrives is not a whole backup. What was written of it is of no use.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection failed. What was written of the backup is of no use.
    #[error("the connection to the server failed: {0}")]
    Connection(Box<dyn std::error::Error + Send + Sync>),
    /// The store of the backup, or of the node, failed.
    #[error("cannot {action} '{object}': {source}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// Path of the object.
        object: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// There is nothing to restore.
    #[error("{place} holds no finished backup: backup.json, which is written last, is not there")]
    NoBackup {
        /// Where the backup was to be.
        place: String,
    },
    /// The backup is damaged, or was changed.
    #[error("the backup is damaged: {object}: {reason}")]
    Damaged {
        /// Path of the object below the backup.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node has data; nothing was written.
    #[error(
        "node '{node_id}' has data already, for example {object}: restore under another --node-id, or into another place, \
         or move what is there away first"
    )]
    NodeNotEmpty {
        /// The node.
        node_id: String,
        /// Something that it has.
        object: String,
    },
    /// What was restored cannot be used: the backup was taken of a node that was damaged.
    #[error("what was restored is not sound: {0}")]
    NotSound(String),
    /// A node into which a restore was begun and not finished.
    #[error(
        "node '{node_id}' is an unfinished restore: remove everything under this name from the store, and restore again"
    )]
    UnfinishedRestore {
        /// The node.
        node_id: String,
    },
}

impl BackupError {
    /// For `map_err`: what was tried with which object.
    pub(crate) fn object(
        action: &'static str,
        object: impl ToString,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Object {
            action,
            object,
            source,
        }
    }
}
