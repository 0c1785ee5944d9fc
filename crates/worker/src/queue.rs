//! What waits to be written to a worker.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tidemill_worker_proto::ToWorker;
use tokio::sync::{Notify, mpsc};

use crate::Gone;

/// Bytes above which [`SendQueue::room`] waits. Several large query results fit, a runaway one does not.
const QUEUED_BYTES_MAX: usize = 16 << 20;

/// Rough size of a message without its blob.
const MESSAGE_BYTES: usize = 128;

/// A frame to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: ToWorker,
    pub(crate) blob: Blob,
}

#[derive(Debug)]
pub(crate) enum Blob {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Outgoing {
    fn bytes(&self) -> usize {
        let blob_bytes = match &self.blob {
            Blob::One(bytes) => bytes.len(),
            Blob::Many(parts) => parts.iter().map(Bytes::len).sum(),
        };
        MESSAGE_BYTES + blob_bytes
    }
}

/// The sending side: unbounded, so that it never blocks, with a count of what waits.
#[derive(Debug)]
pub(crate) struct SendQueue {
    sender: mpsc::UnboundedSender<Outgoing>,
    queued_bytes: AtomicUsize,
    room: Notify,
}

impl SendQueue {
    pub(crate) fn new() -> (Arc<Self>, QueuedFrames) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queue = Arc::new(Self {
            sender,
            queued_bytes: AtomicUsize::new(0),
            room: Notify::new(),
        });
        let frames = QueuedFrames {
            receiver,
            queue: Arc::clone(&queue),
        };
        (queue, frames)
    }

    pub(crate) fn send(&self, outgoing: Outgoing) -> Result<(), Gone> {
        let bytes = outgoing.bytes();
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sender.send(outgoing).map_err(|_| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            Gone
        })
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until less than [`QUEUED_BYTES_MAX`] bytes wait.
    pub(crate) async fn room(&self) -> Result<(), Gone> {
        loop {
            let mut changed = pin!(self.room.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            if self.sender.is_closed() {
                return Err(Gone);
            }
            if self.queued_bytes() < QUEUED_BYTES_MAX {
                return Ok(());
            }
            changed.await;
        }
    }
}

/// The receiving side, for the task that writes to the worker.
#[derive(Debug)]
pub(crate) struct QueuedFrames {
    receiver: mpsc::UnboundedReceiver<Outgoing>,
    queue: Arc<SendQueue>,
}

impl QueuedFrames {
    /// Waits for frames and appends up to `frames_max` of them to `batch`; `false` when there will be none.
    pub(crate) async fn next(&mut self, batch: &mut Vec<Outgoing>, frames_max: usize) -> bool {
        self.receiver.recv_many(batch, frames_max).await > 0
    }

    /// Takes frames that have been written out of the account.
    pub(crate) fn written(&self, batch: &[Outgoing]) {
        let bytes: usize = batch.iter().map(Outgoing::bytes).sum();
        self.queue.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.queue.room.notify_waiters();
    }
}

impl Drop for QueuedFrames {
    fn drop(&mut self) {
        self.receiver.close();
        self.queue.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shutdown(blob_bytes: usize) -> Outgoing {
        Outgoing {
            message: ToWorker::Shutdown,
            blob: Blob::One(vec![0; blob_bytes].into()),
        }
    }

    #[tokio::test]
    async fn room_waits_for_the_writer_and_ends_with_it() {
        let (queue, mut frames) = SendQueue::new();
        queue.room().await.unwrap();
        queue.send(shutdown(QUEUED_BYTES_MAX)).unwrap();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());

        let mut batch = Vec::new();
        assert!(frames.next(&mut batch, 8).await);
        frames.written(&batch);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(queue.queued_bytes(), 0);

        queue.send(shutdown(QUEUED_BYTES_MAX)).unwrap();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.room().await }
        });
        tokio::task::yield_now().await;
        drop(frames);
        assert_eq!(waiting.await.unwrap(), Err(Gone));
        assert_eq!(queue.send(shutdown(0)), Err(Gone));
    }
}
