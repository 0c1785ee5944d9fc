//! Room in the memory buffer: writers wait for it a little, and are refused beyond that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_store::Store;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::write::WriteError;

/// A waiting writer looks again at least this often: rows also go with tables that are dropped.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Who waits for room, and how long.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: usize,
    wait_max: Duration,
    waiting_max: usize,
    waiting: AtomicUsize,
    refused: AtomicU64,
    made: Notify,
}

impl Room {
    /// Room up to `bytes_max`, for which so many writers wait so long at most.
    pub(crate) fn new(bytes_max: usize, wait_max: Duration, waiting_max: usize) -> Self {
        Self {
            bytes_max,
            wait_max,
            waiting_max,
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            made: Notify::new(),
        }
    }

    /// Whether the buffer, with what it takes to make files of it, is below its limit.
    pub(crate) fn is_there(&self, store: &Store) -> bool {
        store.occupied_bytes() < self.bytes_max
    }

    /// Wakes those who wait.
    pub(crate) fn announce(&self) {
        self.made.notify_waiters();
    }

    /// Writers that wait at this moment.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Writers that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns when there is room; an error when that takes too long, or too many wait already. `is_hopeless` says that
    /// nobody is making room.
    pub(crate) async fn wait(&self, store: &Store, is_hopeless: impl Fn() -> bool) -> Result<(), WriteError> {
        let waiting = Waiting::enter(&self.waiting);
        if waiting.position > self.waiting_max {
            return Err(self.refuse(store));
        }
        let end = Instant::now() + self.wait_max;
        loop {
            let made = self.made.notified();
            if self.is_there(store) {
                return Ok(());
            }
            let now = Instant::now();
            if now >= end || is_hopeless() {
                return Err(self.refuse(store));
            }
            // Either outcome is a reason to look again.
            let _ = timeout_at(end.min(now + LOOK_INTERVAL), made).await;
        }
    }

    fn refuse(&self, store: &Store) -> WriteError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        WriteError::BufferFull {
            bytes: store.occupied_bytes(),
            bytes_max: self.bytes_max,
        }
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    position: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        let position = count.fetch_add(1, Ordering::Relaxed) + 1;
        Self { count, position }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
