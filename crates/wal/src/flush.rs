//! The log thread: takes a group, makes it durable, publishes it, answers its writers, wakes its readers.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::queue::{Group, Queue};
use crate::{Lsn, Medium, WalError};

/// What the log thread owns.
pub(crate) struct Flusher<T, P> {
    pub(crate) queue: Arc<Queue<T>>,
    pub(crate) medium: Box<dyn Medium>,
    pub(crate) publish: P,
    pub(crate) last: Lsn,
    /// Set when the thread has ended and the medium is released.
    pub(crate) ended: watch::Sender<bool>,
}

impl<T, P: FnMut(&mut Vec<(Lsn, T)>)> Flusher<T, P> {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(self) {
        // First, so that it is dropped last: the end is told when the medium is gone, and also after a panic.
        let _end = End {
            queue: Arc::clone(&self.queue),
            ended: self.ended,
        };
        let (queue, mut medium, mut publish, mut last) = (self.queue, self.medium, self.publish, self.last);
        let mut published = Vec::new();
        let mut final_error: Option<WalError> = None;
        let mut last_flush = None;
        let mut group = Group::new();
        while queue.take_group(&mut group, last_flush) {
            last_flush = Some(Instant::now());
            let first = last.next();
            let result = match &final_error {
                Some(error) => Err(error.clone()),
                None => medium.append(first, &group.records),
            };
            match result {
                Ok(()) => {
                    last = Lsn(last.0 + group.records.len() as u64);
                    published.extend((first.0..).map(Lsn).zip(group.values.drain(..)));
                    publish(&mut published);
                    published.clear();
                    queue.set_durable(last);
                    queue.decide(group.bytes, Some(group.records.len()));
                    for (lsn, answer) in (first.0..).zip(group.answers.drain(..)) {
                        // Nobody listens if the writer asked for no answer.
                        let _ = answer.send(Ok(Lsn(lsn)));
                    }
                    queue.announce_durable();
                }
                Err(error) => {
                    if error.is_final() && final_error.is_none() {
                        queue.refuse(error.clone());
                        final_error = Some(error.clone());
                    }
                    tracing::error!(%error, records = group.records.len(), bytes = group.bytes, "a flush of the log failed");
                    group.values.clear();
                    queue.decide(group.bytes, None);
                    for answer in group.answers.drain(..) {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
            // After the answers: to free large payloads takes its time.
            group.records.clear();
            group.bytes = 0;
        }
    }
}

/// Lets everybody go who waits for the thread, when it ends and also when it panics.
struct End<T> {
    queue: Arc<Queue<T>>,
    ended: watch::Sender<bool>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.queue.abandon();
        self.ended.send_replace(true);
    }
}
