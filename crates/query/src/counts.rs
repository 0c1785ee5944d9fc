//! What is counted of queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidemill_metrics::{DurationHistogram, Durations};

/// How queries have ended since the engine was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryCounts {
    /// How long they took, however they ended.
    pub durations: Durations,
    /// Those that ended with an error.
    pub failed: u64,
    /// Those that nobody waited for any more.
    pub cancelled: u64,
}

/// Counts queries.
#[derive(Debug, Default)]
pub(crate) struct QueryCounter {
    durations: DurationHistogram,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl QueryCounter {
    pub(crate) fn counts(&self) -> QueryCounts {
        QueryCounts {
            durations: self.durations.durations(),
            failed: self.failed.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
        }
    }

    /// A query begins.
    pub(crate) fn begin(self: &Arc<Self>) -> CountedQuery {
        CountedQuery {
            counter: Arc::clone(self),
            started: Instant::now(),
            failed: None,
        }
    }
}

/// A query that is counted when this is dropped: as cancelled, unless it is known how it ended.
pub(crate) struct CountedQuery {
    counter: Arc<QueryCounter>,
    started: Instant,
    failed: Option<bool>,
}

impl CountedQuery {
    /// The query has ended.
    pub(crate) fn end<T, E>(mut self, outcome: Result<T, E>) -> Result<T, E> {
        self.failed = Some(outcome.is_err());
        outcome
    }
}

impl Drop for CountedQuery {
    fn drop(&mut self) {
        self.counter.durations.observe(self.started.elapsed());
        match self.failed {
            Some(false) => {}
            Some(true) => drop(self.counter.failed.fetch_add(1, Ordering::Relaxed)),
            None => drop(self.counter.cancelled.fetch_add(1, Ordering::Relaxed)),
        }
    }
}
