//! The thread that merges small batches, so that the writer need not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::buffer::merge::merge;
use crate::buffer::table_buffer::TableBuffer;
use crate::priority::lower_priority;

/// Ends, after the merge in hand, when it is dropped.
pub(crate) struct Merger {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    work: Mutex<Work>,
    arrived: Condvar,
    finished: Condvar,
}

#[derive(Default)]
struct Work {
    tables: VecDeque<Arc<TableBuffer>>,
    is_merging: bool,
    is_stopping: bool,
}

impl Merger {
    /// Starts the thread. If the system refuses one, nothing is merged: queries get slower, nothing else.
    pub(crate) fn start() -> Self {
        let queue = Arc::new(Queue::default());
        let thread_queue = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("store-merge".to_owned())
            .spawn(move || {
                lower_priority();
                thread_queue.run();
            });
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for merging batches, they stay as they are");
        }
        Self {
            queue,
            thread: thread.ok(),
        }
    }

    /// Hands over a table that is worth merging; it is queued once however often this is called.
    pub(crate) fn queue(&self, table: &Arc<TableBuffer>) {
        if self.thread.is_none() || table.merge_is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        self.queue.work.lock().tables.push_back(Arc::clone(table));
        self.queue.arrived.notify_one();
    }

    /// Blocks until all that was handed over is merged.
    pub(crate) fn settle(&self) {
        let mut work = self.queue.work.lock();
        while work.is_merging || !work.tables.is_empty() {
            self.queue.finished.wait(&mut work);
        }
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        self.queue.work.lock().is_stopping = true;
        self.queue.arrived.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for merging batches panicked");
        }
    }
}

impl Queue {
    fn run(&self) {
        while let Some(table) = self.next() {
            // Cleared first: a batch that arrives from here on queues the table again.
            table.merge_is_queued.store(false, Ordering::Release);
            merge_once(&table);
            let mut work = self.work.lock();
            // One merge a turn, so that no table waits for all of another.
            if table.batches_to_merge().is_some() && !table.merge_is_queued.swap(true, Ordering::AcqRel) {
                work.tables.push_back(table);
            }
            work.is_merging = false;
            self.finished.notify_all();
        }
    }

    fn next(&self) -> Option<Arc<TableBuffer>> {
        let mut work = self.work.lock();
        loop {
            if work.is_stopping {
                work.tables.clear();
                self.finished.notify_all();
                return None;
            }
            if let Some(table) = work.tables.pop_front() {
                work.is_merging = true;
                return Some(table);
            }
            self.arrived.wait(&mut work);
        }
    }
}

fn merge_once(table: &TableBuffer) {
    let Some(batches) = table.batches_to_merge() else {
        return;
    };
    match merge(&batches) {
        Ok(merged) => table.replace(&batches, merged),
        Err(error) => {
            tracing::error!(table = %table.table(), %error, "batches could not be merged, they stay as they are");
            table.give_up_merging();
        }
    }
}
