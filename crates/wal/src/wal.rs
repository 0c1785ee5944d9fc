//! The log as its users see it.

use std::error::Error;
use std::sync::Arc;
use std::thread;

use tokio::sync::{oneshot, watch};

use crate::flush::Flusher;
use crate::queue::{Entry, Queue};
use crate::{DurableLog, Lsn, Medium, Record, Recovery, WalConfig, WalError, WalStats};

const THREAD_NAME: &str = "wal";

/// A durable log. `T` is what the `publish` callback gets for each record when it is durable.
///
/// Dropping it lets the thread write what was appended and end, but does not wait for that: call
/// [`shutdown`](Self::shutdown) first.
pub struct Wal<T> {
    queue: Arc<Queue<T>>,
    durable_log: Arc<dyn DurableLog>,
    recovery: Recovery,
    ended: watch::Receiver<bool>,
}

/// A record that is accepted but not yet durable. Dropping it gives up the answer, not the record.
#[derive(Debug)]
#[must_use = "the record is durable only when `durable` says so"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Lsn, WalError>>,
}

impl Pending {
    /// Waits until the record is durable and published; returns its number.
    ///
    /// Errors: those of the flush, shared by all records of the group; the record is not in the log.
    /// [`WalError::Stopped`]: not known whether it is.
    pub async fn durable(self) -> Result<Lsn, WalError> {
        self.answer.await.unwrap_or(Err(WalError::Stopped))
    }
}

impl<T: Send + 'static> Wal<T> {
    /// Opens the log: calls `replay` with every record after `config.replay_after`, in order, then starts the
    /// thread. It blocks, and must not be called from asynchronous code (the object medium waits for futures).
    ///
    /// `publish` is called on the thread with each group, after it is durable and before its writers are answered;
    /// what it leaves in the vector is dropped. It must not append to this log.
    ///
    /// Errors: [`WalError::Replay`] if the callback refuses a record; damage that a crash can't explain, each with
    /// the file and the offset; I/O.
    pub fn open<E>(
        mut medium: Box<dyn Medium>,
        config: WalConfig,
        mut replay: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
        publish: impl FnMut(&mut Vec<(Lsn, T)>) + Send + 'static,
    ) -> Result<Self, WalError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let recovery = medium.recover(&config, &mut |lsn, payload| {
            replay(lsn, payload).map_err(|error| WalError::Replay {
                lsn,
                source: error.into().into(),
            })
        })?;
        let durable_log = medium.durable_log();
        let queue = Arc::new(Queue::new(&config, recovery.last));
        let (ended_sender, ended) = watch::channel(false);
        let flusher = Flusher {
            queue: Arc::clone(&queue),
            medium,
            publish,
            last: recovery.last,
            ended: ended_sender,
        };
        thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || flusher.run())
            .map_err(|source| WalError::Thread {
                source: Arc::new(source),
            })?;
        Ok(Self {
            queue,
            durable_log,
            recovery,
            ended,
        })
    }

    /// Appends a record. It has its place in the order from the first poll on; after that, dropping the future
    /// does not take it back. Returns at once unless `pending_bytes_max` is reached; then when what was appended
    /// before has made room, first come first served.
    ///
    /// Errors: [`WalError::PayloadTooLarge`], [`WalError::Closed`], [`WalError::Stopped`], or the final error
    /// of an earlier flush. Nothing was appended then.
    pub async fn append(&self, payload: Vec<u8>, value: T) -> Result<Pending, WalError> {
        let record = Record::new(payload)?;
        let (answer, answered) = oneshot::channel();
        if let Some(admission) = self.queue.push(Entry {
            record,
            value,
            answer,
        })? {
            // An error means that the thread has ended, which the pending record will tell.
            let _ = admission.await;
        }
        Ok(Pending { answer: answered })
    }

    /// Durable records after `after`, in order: at most `bytes_max` payload bytes, but at least one record if
    /// there is one. It blocks on I/O, and must not be called from asynchronous code.
    ///
    /// Errors: [`WalError::Removed`] if the first of them was removed; damage; I/O.
    pub fn read(&self, after: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        let read = self.durable_log.read(after, self.durable_lsn(), bytes_max);
        read.map_err(|error| match error {
            // Where no segment is left, the medium does not know where the log goes on.
            WalError::Removed { after, .. } => WalError::Removed {
                after,
                first: self.first_lsn(),
            },
            error => error,
        })
    }

    /// The last record that is durable and published.
    pub fn durable_lsn(&self) -> Lsn {
        self.queue.durable()
    }

    /// As [`durable_lsn`](Self::durable_lsn), for waiting. Who waits is woken when the writers of a group have been
    /// answered, and finds all of it by [`read`](Self::read).
    pub fn committed(&self) -> watch::Receiver<Lsn> {
        self.queue.committed()
    }

    /// The first record that was not removed; in an empty log the number the first one will get.
    pub fn first_lsn(&self) -> Lsn {
        self.durable_log
            .first_lsn()
            .unwrap_or_else(|| self.durable_lsn().next())
    }

    /// The segments there are, oldest first: the first record of each, and its bytes.
    pub fn segments(&self) -> Vec<(Lsn, u64)> {
        self.durable_log.segments()
    }

    /// Removes the segments whose records are all `< lsn`; returns how many. After that the log must be opened
    /// with a `replay_after` of at least the last record removed. It blocks on I/O, and must not be called from
    /// asynchronous code.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<usize, WalError> {
        // A record that is not durable yet protects nothing: its segment is the last.
        self.durable_log.remove_before(lsn)
    }

    /// What was found when the log was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> WalStats {
        self.queue.stats()
    }

    /// Refuses further appends, writes what was appended, and waits until the thread has ended. May be called more
    /// than once. The records can still be read; a directory is unlocked when the log is dropped.
    pub async fn shutdown(&self) {
        self.queue.close();
        // An error means that the sender is gone, and so is the thread.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl<T> Drop for Wal<T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}
