//! What a journal needs beside its writers: flushing in time, merging, letting go, and removing single rows.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use tokio::time::{sleep, timeout};

use crate::layout;
use crate::merge_plan::{Candidate, MergeLimits, next_merge};
use crate::object::Object;
use crate::{Journal, JournalError};

/// How often a journal is looked after to which nothing is appended: its rows still grow old.
const IDLE_INTERVAL: Duration = Duration::from_mins(1);
/// How long to wait when the store fails.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Journal {
    /// Looks after the journal for as long as it is polled: to be spawned once. It may be aborted at any time;
    /// [`Self::flush`] afterwards saves the rows that are left in memory.
    pub async fn run(self: Arc<Self>) {
        loop {
            if self.stored().unflushed_rows == 0 {
                let _idle = timeout(IDLE_INTERVAL, self.appended.notified()).await;
            }
            let _not_full = timeout(self.config.flush_interval, self.full.notified()).await;
            if self.upkeep().await.is_err() {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Flushes, lets go of what is too old or too much, merges small objects, and removes superfluous ones.
    /// [`Self::run`] does it whenever there is need.
    ///
    /// # Errors
    /// When the store fails, which is logged once per outage. The next call goes on where this one stopped.
    pub async fn upkeep(&self) -> Result<(), JournalError> {
        self.flush().await?;
        let _rewriting = self.rewriting.lock().await;
        self.expire();
        let merged = self.merge_small().await;
        self.remove_garbage().await?;
        merged
    }

    /// Removes the rows at which `matches`, which is called for batches of them, returns true. Covers all rows that were
    /// appended before the call. For few rows and rare calls: it reads the whole journal. Returns how many were removed.
    ///
    /// # Errors
    /// When the store fails. Some of the rows may then be removed, and some not; the call may be repeated.
    pub async fn remove(
        &self,
        matches: impl Fn(&RecordBatch) -> BooleanArray + Send + Sync,
    ) -> Result<usize, JournalError> {
        let _rewriting = self.rewriting.lock().await;
        self.flush().await?;
        let mut removed = 0;
        let objects = self.state.lock().live().to_vec();
        for (place, object) in objects.into_iter().enumerate() {
            let rows = self.read(&object).await?.unwrap_or_default();
            let kept: Vec<RecordBatch> = rows.iter().map(|batch| without(batch, &matches(batch))).collect();
            let removed_here = layout::row_count(&rows) - layout::row_count(&kept);
            if removed_here > 0 {
                self.rewrite(place..place + 1, &[object], kept).await?;
                removed += removed_here;
            }
        }
        // The rows are gone already: the new objects count, wherever the old ones are.
        let _later = self.remove_garbage().await;
        Ok(removed)
    }

    /// Removes everything, in memory and in the store: for when what the journal is about is deleted. The task that runs
    /// it is to be aborted before.
    ///
    /// # Errors
    /// When the store fails. Some objects may then be left; the call may be repeated.
    pub async fn clear(&self) -> Result<(), JournalError> {
        let _rewriting = self.rewriting.lock().await;
        let _flushing = self.lock_flushing().await;
        self.state.lock().clear();
        let mut found = self.folder.list().await?;
        // What is left over by a crash must be whole: nothing goes before what it took the place of.
        found.sort_by_key(|found| found.name.version);
        for found in found {
            self.folder.delete(&found.name).await?;
        }
        Ok(())
    }

    fn expire(&self) {
        let oldest_kept = self.config.oldest_kept((self.clock)());
        let (old, superfluous) = self.state.lock().expire(oldest_kept, self.config.bytes_max);
        if old > 0 {
            tracing::debug!(prefix = %self.folder.prefix(), objects = old, "old rows are removed");
        }
        if superfluous > 0 {
            let bytes_max = self.config.bytes_max;
            tracing::info!(prefix = %self.folder.prefix(), objects = superfluous, bytes_max,
                "the journal is full, its oldest rows are removed");
        }
    }

    async fn merge_small(&self) -> Result<(), JournalError> {
        while let Some((places, objects)) = self.next_merge() {
            let mut rows = Vec::new();
            for object in &objects {
                rows.extend(self.read(object).await?.unwrap_or_default());
            }
            // A damaged one stays, and the next plan goes around it.
            if !objects.iter().any(|object| object.is_damaged()) {
                self.rewrite(places, &objects, rows).await?;
            }
        }
        Ok(())
    }

    fn next_merge(&self) -> Option<(Range<usize>, Vec<Arc<Object>>)> {
        let limits = MergeLimits {
            bytes_max: self.config.object_bytes_max(),
            span_ns_max: self.config.object_span_ns_max(),
        };
        let state = self.state.lock();
        let candidates = state.live().iter().map(|object| Candidate {
            bytes: object.name.memory_bytes,
            times: object.name.times.clone(),
            is_damaged: object.is_damaged(),
        });
        let places = next_merge(&candidates.collect::<Vec<_>>(), limits)?;
        Some((places.clone(), state.live()[places].to_vec()))
    }

    /// Puts one object with these rows in the place of neighbours. `rewriting` is held.
    async fn rewrite(
        &self,
        places: Range<usize>,
        replaced: &[Arc<Object>],
        rows: Vec<RecordBatch>,
    ) -> Result<(), JournalError> {
        let names = || replaced.iter().map(|object| &object.name);
        let (Some(first), Some(last)) = (names().next(), names().next_back()) else {
            return Ok(());
        };
        let flushes = *first.flushes.start()..=*last.flushes.end();
        let times = names().fold(first.times.clone(), |times, name| {
            *times.start().min(name.times.start())..=*times.end().max(name.times.end())
        });
        // Dictionaries are counted with every batch that refers to them, so a sum over batches may be too much.
        let bytes_before: usize = names().map(|name| name.memory_bytes).sum();
        let memory_bytes = bytes_before.min(rows.iter().map(layout::size_bytes).sum());
        let (object, content) = self
            .encode(flushes, self.next_number(), times, memory_bytes, rows)
            .await?;
        self.put_or_discard(&object, content).await?;
        self.state.lock().replace(places, object);
        Ok(())
    }

    /// Removes objects that nobody reads any more. `rewriting` is held.
    async fn remove_garbage(&self) -> Result<(), JournalError> {
        loop {
            let next = self.state.lock().next_garbage().map(|object| object.name.clone());
            let Some(name) = next else { return Ok(()) };
            self.folder.delete(&name).await?;
            self.state.lock().pop_garbage();
        }
    }
}

/// The rows at which the mask is not true. A mask that is too short says nothing of the rest.
fn without(batch: &RecordBatch, mask: &BooleanArray) -> RecordBatch {
    let is_removed = |row| row < mask.len() && mask.is_valid(row) && mask.value(row);
    let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(!is_removed(row))).collect();
    layout::select(batch, &kept)
}
