//! The catalog in a running process: lock-free reads, serialised durable changes, checkpoints in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use object_store::ObjectStore;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use uuid::Uuid;

use crate::log::{Append, CatalogLog};
use crate::state::CatalogState;
use crate::transaction::Transaction;
use crate::{CatalogError, INTERNAL_DATABASE, Limits};

/// Records between two checkpoints.
const RECORDS_PER_CHECKPOINT: u64 = 100;
const INTERNAL_RETENTION_NS: u64 = 7 * 24 * 60 * 60 * 1_000_000_000;

/// A node's catalog. Cloning it is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    log: CatalogLog,
    limits: Limits,
    state: ArcSwap<CatalogState>,
    changes: watch::Sender<u64>,
    /// Whoever holds it is the only one that appends to the log.
    writer: Arc<Mutex<Writer>>,
    /// Sequence number of the newest checkpoint.
    checkpoint: AtomicU64,
    checkpoint_is_running: AtomicBool,
    checkpoint_writer: Mutex<()>,
}

/// What the writer must remember from one transaction to the next.
#[derive(Default)]
struct Writer {
    /// A change whose put failed: the store may have it nevertheless, or may yet get it.
    in_doubt: Option<Change>,
}

/// A record and the state that it leads to.
struct Change {
    record: Bytes,
    state: Arc<CatalogState>,
}

impl Catalog {
    /// Reads the catalog of a node, and creates it with the database `_internal` (7 days retention) at the first start.
    /// `store` must make an object durable before a put returns: for local files that is
    /// [`crate::DurableLocalStore`]. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`CatalogError::Store`], [`CatalogError::Corrupt`] naming the object, [`CatalogError::Conflict`].
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        node_id: &str,
        limits: Limits,
    ) -> Result<Self, CatalogError> {
        let log = CatalogLog::new(store, node_id);
        let (state, checkpoint) = log.load().await?;
        let is_new = state.sequence() == 0;
        let catalog = Self {
            shared: Arc::new(Shared {
                log,
                limits,
                changes: watch::channel(state.sequence()).0,
                state: ArcSwap::from_pointee(state),
                writer: Arc::default(),
                checkpoint: AtomicU64::new(checkpoint),
                checkpoint_is_running: AtomicBool::new(false),
                checkpoint_writer: Mutex::new(()),
            }),
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

    /// The present state; lock-free, and unaffected by later changes.
    pub fn state(&self) -> Arc<CatalogState> {
        self.shared.state.load_full()
    }

    /// Identity of the catalog, made at its first start.
    pub fn uuid(&self) -> Uuid {
        self.shared.state.load().uuid()
    }

    /// The limits it was opened with.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Carries the sequence number of each new state, after it can be read by [`Catalog::state`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
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
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        self.shared.settle(&mut writer).await?;
        let before = self.state();
        let mut transaction = Transaction::new(Arc::clone(&before), self.shared.limits.clone());
        let result = f(&mut transaction)?;
        let (mut state, operations) = transaction.into_parts();
        if operations.is_empty() {
            return Ok(result);
        }
        let sequence = before.sequence() + 1;
        Arc::make_mut(&mut state).set_sequence(sequence);
        let record = self.shared.log.encode(sequence, &operations)?;
        let commit = Arc::clone(&self.shared).commit(writer, Change { record, state });
        // A task of its own: a caller that goes away must not leave a record without its state.
        tokio::spawn(commit)
            .await
            .expect("a commit neither panics nor is aborted")?;
        Ok(result)
    }

    /// Writes a checkpoint of the present state unless there is one, so that the next start reads no tail. Happens by
    /// itself every 100 records; useful at shutdown.
    ///
    /// # Errors
    /// [`CatalogError::Store`]; the catalog works on without the checkpoint.
    pub async fn checkpoint(&self) -> Result<(), CatalogError> {
        self.shared.checkpoint().await
    }
}

impl Shared {
    async fn commit(
        self: Arc<Self>,
        mut writer: OwnedMutexGuard<Writer>,
        change: Change,
    ) -> Result<(), CatalogError> {
        let sequence = change.state.sequence();
        match self.log.append(sequence, change.record.clone()).await {
            Ok(Append::Done) => {}
            // The store client tried twice, and the first try had succeeded.
            Ok(Append::Taken(present)) if present == change.record => {}
            Ok(Append::Taken(present)) => {
                return match writer.in_doubt.take() {
                    Some(late) if late.record == present => {
                        self.publish(late.state);
                        Err(CatalogError::Superseded)
                    }
                    _ => Err(CatalogError::Conflict { sequence }),
                };
            }
            Err(error) => {
                writer.in_doubt = Some(change);
                return Err(error);
            }
        }
        writer.in_doubt = None;
        self.publish(change.state);
        self.checkpoint_if_due();
        Ok(())
    }

    /// Finds out whether a change whose put failed is durable nevertheless; if so it takes effect now. If it is not
    /// there it stays in doubt, since a request that timed out may still arrive.
    async fn settle(&self, writer: &mut Writer) -> Result<(), CatalogError> {
        let Some(change) = &writer.in_doubt else {
            return Ok(());
        };
        let sequence = change.state.sequence();
        match self.log.record_bytes(sequence).await? {
            None => Ok(()),
            Some(present) if present == change.record => {
                self.publish(Arc::clone(&change.state));
                writer.in_doubt = None;
                Ok(())
            }
            Some(_) => Err(CatalogError::Conflict { sequence }),
        }
    }

    fn publish(&self, state: Arc<CatalogState>) {
        let sequence = state.sequence();
        self.state.store(state);
        self.changes.send_replace(sequence);
    }

    fn checkpoint_if_due(self: &Arc<Self>) {
        let records = self
            .state
            .load()
            .sequence()
            .saturating_sub(self.checkpoint.load(Ordering::Acquire));
        if records < RECORDS_PER_CHECKPOINT || self.checkpoint_is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = shared.checkpoint().await {
                tracing::warn!(%error, "catalog checkpoint failed, it is tried again after the next change");
            }
            shared.checkpoint_is_running.store(false, Ordering::Release);
        });
    }

    async fn checkpoint(&self) -> Result<(), CatalogError> {
        let _only_one = self.checkpoint_writer.lock().await;
        let state = self.state.load_full();
        if state.sequence() > self.checkpoint.load(Ordering::Acquire) {
            self.log.write_checkpoint(&state).await?;
            self.checkpoint.store(state.sequence(), Ordering::Release);
        }
        Ok(())
    }
}
