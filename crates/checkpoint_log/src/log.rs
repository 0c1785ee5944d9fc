//! The log in a running process: lock-free reads, serialised durable changes, checkpoints in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use object_store::ObjectStore;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::disk::{is_disk_full, is_read_only};
use crate::objects::{Append, LogObjects};
use crate::{Change, LogConfig, LogError, LogState, OnFailure};

/// A log and the state that it adds up to. Cloning it is cheap and gives another handle to the same.
pub struct CheckpointLog<S: LogState> {
    shared: Arc<Shared<S>>,
}

impl<S: LogState> Clone for CheckpointLog<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<S> {
    name: &'static str,
    on_failure: OnFailure,
    records_per_checkpoint: u64,
    objects: LogObjects,
    present: ArcSwap<Numbered<S>>,
    changes: watch::Sender<u64>,
    /// Whoever holds it is the only one that appends to the log.
    writer: Arc<Mutex<Writer<S>>>,
    /// Sequence number of the newest checkpoint.
    checkpoint: AtomicU64,
    checkpoint_is_running: AtomicBool,
    checkpoint_writer: Mutex<()>,
}

/// A state and the number of the record that led to it.
struct Numbered<S> {
    sequence: u64,
    state: Arc<S>,
}

/// What the writer must remember from one change to the next.
struct Writer<S> {
    /// A record whose put failed: the store may have it nevertheless, or may yet get it.
    in_doubt: Option<Pending<S>>,
}

/// A record that is not known to be durable, and the state that it leads to.
struct Pending<S> {
    record: Bytes,
    next: Numbered<S>,
}

impl<S: LogState> CheckpointLog<S> {
    /// Reads the log; one that is not there is empty. Writes nothing. `store` must make an object durable before a put
    /// returns.
    ///
    /// # Errors
    /// [`LogError::Store`], [`LogError::Corrupt`] naming the object.
    pub async fn open(store: Arc<dyn ObjectStore>, config: &LogConfig) -> Result<Self, LogError> {
        let objects = LogObjects::new(store, config);
        let loaded = objects.load::<S>().await?;
        let shared = Shared {
            name: config.name,
            on_failure: config.on_failure,
            records_per_checkpoint: config.records_per_checkpoint,
            objects,
            present: ArcSwap::from_pointee(Numbered {
                sequence: loaded.sequence,
                state: Arc::new(loaded.state),
            }),
            changes: watch::channel(loaded.sequence).0,
            writer: Arc::new(Mutex::new(Writer { in_doubt: None })),
            checkpoint: AtomicU64::new(loaded.checkpoint),
            checkpoint_is_running: AtomicBool::new(false),
            checkpoint_writer: Mutex::new(()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The present state; lock-free, and unaffected by later changes.
    pub fn state(&self) -> Arc<S> {
        Arc::clone(&self.shared.present.load().state)
    }

    /// Number of the last record; 0: there is none.
    pub fn sequence(&self) -> u64 {
        self.shared.present.load().sequence
    }

    /// Carries the sequence number of each new state, after it can be read by [`CheckpointLog::state`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Asks `f`, which gets the newest state and the number that the next record will have, for a change. If `f` fails or
    /// wants none, nothing is written; otherwise the change is made durable as one record and then becomes visible. Changes
    /// happen one after the other. Once `f` has returned, dropping the future does not stop the change. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// Those of `f`; [`LogError::Store`] when the record could not be written: the state is as before;
    /// [`LogError::Superseded`]; [`LogError::Conflict`], after which the process must stop.
    pub async fn transact<R, E: From<LogError>>(
        &self,
        f: impl FnOnce(u64, &Arc<S>) -> Result<(R, Option<Change<S>>), E>,
    ) -> Result<R, E> {
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        self.shared.settle(&mut writer).await?;
        let before = self.shared.present.load_full();
        let sequence = before.sequence + 1;
        let (result, change) = f(sequence, &before.state)?;
        let Some(change) = change else {
            return Ok(result);
        };
        let pending = Pending {
            record: self.shared.objects.encode(sequence, &change.edits)?,
            next: Numbered {
                sequence,
                state: change.state,
            },
        };
        let commit = Arc::clone(&self.shared).commit(writer, pending);
        // A task of its own: a caller that goes away must not leave a record without its state.
        tokio::spawn(commit)
            .await
            .expect("a commit neither panics nor is aborted")?;
        Ok(result)
    }

    /// Writes a checkpoint of the present state unless there is one, so that the next start reads no tail. Happens by
    /// itself every so many records; useful at shutdown.
    ///
    /// # Errors
    /// [`LogError::Store`]; the log works on without the checkpoint.
    pub async fn checkpoint(&self) -> Result<(), LogError> {
        self.shared.checkpoint().await
    }
}

impl<S: LogState> Shared<S> {
    async fn commit(
        self: Arc<Self>,
        mut writer: OwnedMutexGuard<Writer<S>>,
        pending: Pending<S>,
    ) -> Result<(), LogError> {
        let sequence = pending.next.sequence;
        match self.append(&pending).await {
            Ok(Append::Done) => {}
            // An earlier try had succeeded.
            Ok(Append::Taken(present)) if present == pending.record => {}
            Ok(Append::Taken(present)) => {
                return match writer.in_doubt.take() {
                    Some(late) if late.record == present => {
                        self.publish(late.next);
                        Err(LogError::Superseded)
                    }
                    _ => Err(LogError::Conflict { sequence }),
                };
            }
            Err(error) => {
                if self.on_failure == OnFailure::Report {
                    writer.in_doubt = Some(pending);
                }
                return Err(error.into());
            }
        }
        writer.in_doubt = None;
        self.publish(pending.next);
        self.checkpoint_if_due();
        Ok(())
    }

    /// Puts the record, again and again if the configuration wants that.
    async fn append(&self, pending: &Pending<S>) -> Result<Append, object_store::Error> {
        let sequence = pending.next.sequence;
        let append = || self.objects.append(sequence, pending.record.clone());
        let (mut pause, pause_max) = match self.on_failure {
            OnFailure::Report => return append().await,
            OnFailure::Insist { pause_min, pause_max } => (pause_min, pause_max),
        };
        let mut error = match append().await {
            Err(error) if self.is_certainly_absent(sequence, &error).await => return Err(error),
            Err(error) => error,
            appended => return appended,
        };
        loop {
            tracing::warn!(log = self.name, sequence, %error, "cannot tell whether a record was written, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).clamp(Duration::ZERO, pause_max);
            error = match append().await {
                Err(error) => error,
                appended => return appended,
            };
        }
    }

    /// Whether a first try that ended in this error left nothing and will not.
    async fn is_certainly_absent(&self, sequence: u64, error: &object_store::Error) -> bool {
        is_refusal(error) && matches!(self.objects.record_bytes(sequence).await, Ok(None))
    }

    /// Finds out whether a change whose put failed is durable nevertheless; if so it takes effect now. If it is not
    /// there it stays in doubt, since a request that timed out may still arrive.
    async fn settle(&self, writer: &mut Writer<S>) -> Result<(), LogError> {
        let Some(pending) = &writer.in_doubt else {
            return Ok(());
        };
        let sequence = pending.next.sequence;
        match self.objects.record_bytes(sequence).await? {
            None => Ok(()),
            Some(present) if present == pending.record => {
                let settled = writer.in_doubt.take();
                self.publish(settled.expect("it was there a moment ago").next);
                Ok(())
            }
            Some(_) => Err(LogError::Conflict { sequence }),
        }
    }

    fn publish(&self, next: Numbered<S>) {
        let sequence = next.sequence;
        self.present.store(Arc::new(next));
        self.changes.send_replace(sequence);
    }

    fn checkpoint_if_due(self: &Arc<Self>) {
        let checkpoint = self.checkpoint.load(Ordering::Acquire);
        let records = self.present.load().sequence.saturating_sub(checkpoint);
        if records < self.records_per_checkpoint || self.checkpoint_is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = shared.checkpoint().await {
                tracing::warn!(log = shared.name, %error, "checkpoint failed, it is tried again after the next change");
            }
            shared.checkpoint_is_running.store(false, Ordering::Release);
        });
    }

    async fn checkpoint(&self) -> Result<(), LogError> {
        let _only_one = self.checkpoint_writer.lock().await;
        let present = self.present.load_full();
        if present.sequence > self.checkpoint.load(Ordering::Acquire) {
            self.objects
                .write_checkpoint(present.sequence, &*present.state)
                .await?;
            self.checkpoint.store(present.sequence, Ordering::Release);
        }
        Ok(())
    }
}

/// Whether the store refused a request rather than failed in the middle of it. Of failures in the middle only a disk that
/// takes nothing is one that leaves nothing.
fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error;
    match error {
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotImplemented { .. }
        | Error::NotSupported { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => true,
        Error::Generic { source, .. } => is_disk_full(&**source) || is_read_only(&**source),
        _ => false,
    }
}
