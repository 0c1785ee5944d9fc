//! The manifest in a running process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use thiserror::Error;
use tidemill_checkpoint_log::{
    Change, CheckpointLog, Inspection, LogConfig, LogError, LogState, OnFailure, Start, inspect,
};

use crate::{Edit, FileId, ManifestState};

/// Identities that one run of a process may give away: more than it can ever write, and so few that a `u64` is enough for
/// four thousand million starts.
const FILE_IDS_PER_RUN: u64 = 1 << 32;
const RECORDS_PER_CHECKPOINT: u64 = 100;
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the manifest does not open, or why a commit did nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// An edit does not fit the present state: it refers to a file that is not live any more, or adds one again. Nothing
    /// was changed. Whoever made the edits from an older state may make them anew from the present one.
    #[error("manifest: {0}")]
    Refused(String),
    /// Another process writes to the same manifest: two servers run with one node id. This process must stop.
    #[error(
        "manifest record {sequence} was written by another process: is a second server running with this node id?"
    )]
    Conflict {
        /// Number of the record that both wanted.
        sequence: u64,
    },
    /// An object of the manifest is damaged, missing or of another version. Nothing was changed; restore the object.
    #[error("manifest object '{object}' is unusable: {reason}")]
    Corrupt {
        /// Path of the object in the store.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object store refused, or failed while the manifest was read. Nothing was changed.
    #[error("manifest store: {0}")]
    Store(#[source] object_store::Error),
}

impl From<LogError> for ManifestError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Conflict { sequence } => Self::Conflict { sequence },
            LogError::Superseded => Self::Refused("an earlier change took effect late".to_owned()),
            LogError::Corrupt { object, reason } => Self::Corrupt { object, reason },
            LogError::Store(source) => Self::Store(source),
        }
    }
}

impl LogState for ManifestState {
    type Edit = Edit;
    type Image = Self;

    fn empty() -> Self {
        Self::default()
    }

    fn apply(&mut self, _sequence: u64, edits: &[Edit]) -> Result<(), String> {
        self.apply_all(edits)
    }

    fn to_image(&self) -> Self {
        self.clone()
    }

    fn from_image(_sequence: u64, image: Self) -> Result<Self, String> {
        image.check()?;
        Ok(image)
    }
}

/// A node's manifest. Cloning it is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Manifest {
    log: CheckpointLog<ManifestState>,
    first_file_id: FileId,
    next_file_id: Arc<AtomicU64>,
}

impl Manifest {
    /// Reads the manifest of a node; a node without one gets an empty one. Lists nothing unless `current` is missing or
    /// damaged. Writes one record, so that identities of files are never used again, and so that a process of the same node that still
    /// runs fails at its next commit. `objects` must make an object durable before a put returns. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ManifestError::Store`], [`ManifestError::Corrupt`] naming the object, [`ManifestError::Conflict`].
    pub async fn open(objects: Arc<dyn ObjectStore>, node_id: &str) -> Result<Self, ManifestError> {
        let log = CheckpointLog::<ManifestState>::open(objects, &log_config(node_id)).await?;
        let first = log.state().next_file_id().0;
        let manifest = Self {
            log,
            first_file_id: FileId(first),
            next_file_id: Arc::default(),
        };
        let below = first.checked_add(FILE_IDS_PER_RUN);
        let below = below.ok_or_else(|| ManifestError::Refused("all file ids are used up".to_owned()))?;
        manifest.next_file_id.store(first, Ordering::Relaxed);
        manifest.commit(vec![Edit::ReserveFileIds { below }]).await?;
        Ok(manifest)
    }

    /// What the manifest of a node adds up to, for those who only look; writes nothing.
    ///
    /// # Errors
    /// [`ManifestError::Store`], [`ManifestError::Corrupt`] naming the object.
    pub async fn read(
        objects: Arc<dyn ObjectStore>,
        node_id: &str,
    ) -> Result<Arc<ManifestState>, ManifestError> {
        let log = CheckpointLog::<ManifestState>::open(objects, &log_config(node_id)).await?;
        Ok(log.state())
    }

    /// Reads everything that the manifest of a node has stored, for those who only look; writes nothing.
    ///
    /// # Errors
    /// [`ManifestError::Store`]. What is damaged is in the inspection.
    pub async fn inspect(
        objects: Arc<dyn ObjectStore>,
        node_id: &str,
    ) -> Result<Inspection<ManifestState>, ManifestError> {
        let inspection = inspect(objects, &log_config(node_id)).await;
        inspection.map_err(ManifestError::Store)
    }

    /// The present state; lock-free, and unaffected by later commits.
    pub fn state(&self) -> Arc<ManifestState> {
        self.log.state()
    }

    /// Number of the last record.
    pub fn sequence(&self) -> u64 {
        self.log.sequence()
    }

    /// Makes the edits durable as one record, then visible. Returns the state right after them. Commits happen one after the
    /// other. While the store fails so that the outcome is not known, this waits, however long that takes: so an error means
    /// that nothing was done, and objects that the edits name may be removed. Dropping the future does not stop a
    /// commit that has begun.
    ///
    /// # Errors
    /// [`ManifestError::Refused`]; [`ManifestError::Store`] when the store refused the first try, for example since the disk is full;
    /// [`ManifestError::Conflict`], after which the process must stop.
    pub async fn commit(&self, edits: Vec<Edit>) -> Result<Arc<ManifestState>, ManifestError> {
        self.log
            .transact(|_sequence, before| {
                let state = Arc::new(before.after(&edits).map_err(ManifestError::Refused)?);
                let change = (!edits.is_empty()).then(|| Change {
                    edits,
                    state: Arc::clone(&state),
                });
                Ok((state, change))
            })
            .await
    }

    /// Writes a checkpoint of the present state unless there is one, so that the next start reads no tail. Happens by
    /// itself every 100 records; useful at shutdown.
    ///
    /// # Errors
    /// [`ManifestError::Store`]; the manifest works on without the checkpoint.
    pub async fn checkpoint(&self) -> Result<(), ManifestError> {
        Ok(self.log.checkpoint().await?)
    }

    /// The first identity that this handle, or a clone of it, may give to a file: files with lesser ones were written by
    /// earlier processes.
    pub fn first_file_id(&self) -> FileId {
        self.first_file_id
    }

    /// An identity for a file that is to be written. None is given twice, not even after a crash.
    pub fn allocate_file_id(&self) -> FileId {
        FileId(self.next_file_id.fetch_add(1, Ordering::Relaxed))
    }
}

fn log_config(node_id: &str) -> LogConfig {
    LogConfig {
        name: "manifest",
        folder: Path::from(node_id).join("manifest"),
        record_magic: *b"TMMANLOG",
        checkpoint_magic: *b"TMMANCKP",
        version: 1,
        start: Start::Pointer { magic: *b"TMMANCUR" },
        records_per_checkpoint: RECORDS_PER_CHECKPOINT,
        on_failure: OnFailure::Insist {
            pause_min: PAUSE_MIN,
            pause_max: PAUSE_MAX,
        },
    }
}
