//! The catalog in a running process: the log of its changes, and the state they add up to.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use tidemill_checkpoint_log::{Change, CheckpointLog, Inspection, LogConfig, OnFailure, Start, inspect};
use tokio::sync::watch;
use uuid::Uuid;

use crate::recorded::RecordedState;
use crate::state::CatalogState;
use crate::transaction::Transaction;
use crate::{CatalogError, INTERNAL_DATABASE, Limits};

/// Records between two checkpoints.
const RECORDS_PER_CHECKPOINT: u64 = 100;
const INTERNAL_RETENTION_NS: u64 = 7 * 24 * 60 * 60 * 1_000_000_000;

/// A node's catalog. Cloning it is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Catalog {
    log: CheckpointLog<RecordedState>,
    limits: Arc<Limits>,
}

impl Catalog {
    /// Reads the catalog of a node, and creates it with the database `_internal` (7 days retention) at the first start.
    /// `store` must make an object durable before a put returns: for local files that is
    /// `DurableLocalStore` of the object stores. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`CatalogError::Store`], [`CatalogError::Corrupt`] naming the object, [`CatalogError::Conflict`].
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        node_id: &str,
        limits: Limits,
    ) -> Result<Self, CatalogError> {
        let config = log_config(node_id);
        let log = CheckpointLog::open(store, &config).await?;
        let is_new = log.sequence() == 0;
        let catalog = Self {
            log,
            limits: Arc::new(limits),
        };
        if is_new {
            let create = |transaction: &mut Transaction| {
                transaction.initialize();
                transaction.create_database(INTERNAL_DATABASE, Some(INTERNAL_RETENTION_NS))
            };
            catalog.transact(create).await?;
        }
        Ok(catalog)
    }

    /// Reads everything that the catalog of a node has stored, for those who only look; writes nothing.
    ///
    /// # Errors
    /// [`CatalogError::Store`]. What is damaged is in the inspection.
    pub async fn inspect(
        store: Arc<dyn ObjectStore>,
        node_id: &str,
    ) -> Result<Inspection<CatalogState>, CatalogError> {
        let inspection = inspect::<RecordedState>(store, &log_config(node_id)).await?;
        Ok(Inspection {
            state: inspection.state.map(|state| Arc::clone(state.catalog())),
            sequence: inspection.sequence,
            objects: inspection.objects,
            bytes: inspection.bytes,
            damaged: inspection.damaged,
        })
    }

    /// The present state; lock-free, and unaffected by later changes.
    pub fn state(&self) -> Arc<CatalogState> {
        Arc::clone(self.log.state().catalog())
    }

    /// Identity of the catalog, made at its first start.
    pub fn uuid(&self) -> Uuid {
        self.state().uuid()
    }

    /// The limits it was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Carries the sequence number of each new state, after it can be read by [`Catalog::state`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.log.changes()
    }

    /// Runs `f` on a working copy of the newest state. If it fails nothing happens; if it changes nothing, nothing is
    /// written; otherwise all its changes are made durable as one record and then become visible at once.
    /// Transactions run one after the other. Once `f` has returned, dropping the future does not stop the change.
    ///
    /// # Errors
    /// Those of `f`; [`CatalogError::Store`] when the record could not be written: state is as before, and the change
    /// may be tried again; [`CatalogError::Superseded`]; [`CatalogError::Conflict`], after which the process must stop.
    pub async fn transact<R>(
        &self,
        f: impl FnOnce(&mut Transaction) -> Result<R, CatalogError>,
    ) -> Result<R, CatalogError> {
        self.log
            .transact(|sequence, before| {
                let mut transaction =
                    Transaction::new(Arc::clone(before.catalog()), Limits::clone(&self.limits));
                let result = f(&mut transaction)?;
                let (state, edits) = transaction.into_parts();
                let change = (!edits.is_empty()).then(|| Change {
                    state: Arc::new(RecordedState::new(state, sequence)),
                    edits,
                });
                Ok((result, change))
            })
            .await
    }

    /// Writes a checkpoint of the present state unless there is one, so that the next start reads no tail. Happens by
    /// itself every 100 records; useful at shutdown.
    ///
    /// # Errors
    /// [`CatalogError::Store`]; the catalog works on without the checkpoint.
    pub async fn checkpoint(&self) -> Result<(), CatalogError> {
        Ok(self.log.checkpoint().await?)
    }
}

fn log_config(node_id: &str) -> LogConfig {
    LogConfig {
        name: "catalog",
        folder: Path::from(node_id).join("catalog"),
        record_magic: *b"TMCATLOG",
        checkpoint_magic: *b"TMCATCKP",
        version: 1,
        start: Start::Listing,
        records_per_checkpoint: RECORDS_PER_CHECKPOINT,
        on_failure: OnFailure::Report,
    }
}
