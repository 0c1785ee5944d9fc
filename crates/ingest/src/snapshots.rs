//! Snapshots: when the buffer becomes files, what becomes of the log then, and what happens where it cannot be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill_metrics::{DurationHistogram, Durations};
use tidemill_store::{Flush, FlushError, FlushReport};
use tidemill_triggers::PluginType;
use tidemill_wal::{Lsn, WalError};
use tokio::sync::{Mutex, Notify};

use crate::ingest::Ingest;
use crate::log_retention::{Retention, backlog_bytes, cut};
use crate::progress::TriggerKey;
use crate::progress_image;
use crate::room::Room;
use crate::snapshot_config::SnapshotConfig;

/// The first pause after a failure, and the longest.
const PAUSE_MIN_NS: i64 = 1_000_000_000;
const PAUSE_MAX_NS: i64 = 60_000_000_000;

/// What [`Ingest::snapshot_once`] has done.
#[derive(Debug)]
pub enum SnapshotStep {
    /// Nothing, because there was nothing to do.
    Idle,
    /// Nothing, because the last attempt has failed not long ago.
    Paused,
    /// A snapshot was made.
    Done(FlushReport),
    /// It failed; everything is in the buffer and in the log as before, and it is tried again later.
    Failed(FlushError),
}

/// The snapshots of one write path.
pub(crate) struct Snapshots {
    pub(crate) config: SnapshotConfig,
    pub(crate) room: Room,
    /// Held while a snapshot is made.
    progress: Mutex<SnapshotProgress>,
    /// Told when a limit is reached.
    due: Notify,
    is_failing: AtomicBool,
    /// The log, or a change of the schema, could not be written because there is no space.
    disk_is_full: AtomicBool,
    /// Whoever else has it keeps the whole log.
    log_hold: Arc<()>,
    counters: Counters,
}

/// What one attempt leaves for the next.
#[derive(Default)]
struct SnapshotProgress {
    /// When rows were first seen that are in no file.
    rows_since_ns: Option<i64>,
    /// How much had been written to the log when the last snapshot began.
    log_bytes_before: u64,
    /// After a failure: when to try again, and how long to wait after the next one.
    retry: Option<Retry>,
}

#[derive(Clone, Copy)]
struct Retry {
    at_ns: i64,
    pause_ns: i64,
}

#[derive(Default)]
struct Counters {
    done: AtomicU64,
    failed: AtomicU64,
    files: AtomicU64,
    rows: AtomicU64,
    file_bytes: AtomicU64,
    log_bytes_before: AtomicU64,
    segments_removed: AtomicU64,
    records_skipped: AtomicU64,
    durations: DurationHistogram,
}

/// The write path in numbers; what is counted is counted since it was opened.
#[derive(Debug, Clone)]
pub struct IngestStats {
    /// Memory of the rows that no file holds.
    pub buffer_bytes: u64,
    /// Where snapshots begin.
    pub buffer_bytes_soft: u64,
    /// Where writers wait.
    pub buffer_bytes_max: u64,
    /// Writers that wait for room.
    pub waiting_writers: u64,
    /// Writes that were refused because there was no room.
    pub refused_writes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// Bytes of the log that are in no snapshot: what a start replays.
    pub log_replay_bytes: u64,
    /// Bytes of the log that are kept for triggers alone.
    pub log_backlog_bytes: u64,
    /// Segments that were removed.
    pub log_segments_removed: u64,
    /// Records that were removed although some trigger had not read them.
    pub log_records_skipped: u64,
    /// The place in the log up to which everything is in files.
    pub snapshot_lsn: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Attempts that failed.
    pub failed_snapshots: u64,
    /// Whether the last attempt failed.
    pub is_failing: bool,
    /// Files that snapshots wrote.
    pub snapshot_files: u64,
    /// Rows of the buffer that became files.
    pub snapshot_rows: u64,
    /// Bytes of these files.
    pub snapshot_file_bytes: u64,
    /// How long snapshots took.
    pub snapshot_durations: Durations,
}

impl Snapshots {
    pub(crate) fn new(config: SnapshotConfig) -> Self {
        Self {
            room: Room::new(
                config.buffer_bytes_max,
                config.room_wait_max,
                config.room_waiting_max,
            ),
            config,
            progress: Mutex::default(),
            due: Notify::new(),
            is_failing: AtomicBool::new(false),
            disk_is_full: AtomicBool::new(false),
            log_hold: Arc::default(),
            counters: Counters::default(),
        }
    }

    /// Told after each commit; cheap.
    pub(crate) fn note_buffer(&self, buffer_bytes: usize) {
        if buffer_bytes >= self.config.buffer_bytes_soft {
            self.due.notify_one();
        }
    }

    /// Told when the log could not be written.
    pub(crate) fn note_log_failure(&self, error: &WalError) {
        if is_disk_full(error) {
            self.note_disk_full();
        }
    }

    /// Told when something could not be written for want of space.
    pub(crate) fn note_disk_full(&self) {
        if !self.disk_is_full.swap(true, Ordering::Relaxed) {
            self.due.notify_one();
        }
    }

    /// Whether the last attempt at a snapshot failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// As long as it lives, the log is not shortened.
    pub(crate) async fn hold_log(&self) -> Arc<()> {
        // The log is shortened while this is held, and not while somebody begins to hold it.
        let _between_snapshots = self.progress.lock().await;
        Arc::clone(&self.log_hold)
    }

    /// Wakes whoever makes snapshots.
    pub(crate) fn ask(&self) {
        self.due.notify_one();
    }

    /// Waits until a limit is reached.
    pub(crate) async fn asked(&self) {
        self.due.notified().await;
    }
}

/// Whether a write failed for want of space.
pub(crate) fn is_disk_full(error: &WalError) -> bool {
    match error {
        WalError::Io { source, .. } => matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

impl Ingest {
    /// Makes one snapshot if one of the limits asks for it: memory, bytes of the log, age of the rows, or a full disk. Then
    /// removes what the log need not keep. `now_ns` is the time in nanoseconds since the epoch. Ends what it has
    /// begun even if the future is dropped; one at a time.
    pub async fn snapshot_once(self: &Arc<Self>, now_ns: i64) -> SnapshotStep {
        self.run_step(now_ns, false).await
    }

    /// Makes a snapshot whatever the limits say, unless everything is in files already.
    pub async fn snapshot_now(self: &Arc<Self>, now_ns: i64) -> SnapshotStep {
        self.run_step(now_ns, true).await
    }

    /// The write path in numbers.
    pub fn stats(&self) -> IngestStats {
        let config = &self.snapshots.config;
        let counters = &self.snapshots.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let segments = self.wal.segments();
        let snapshot_lsn = self.storage.snapshot_lsn();
        IngestStats {
            buffer_bytes: self.store().total_bytes() as u64,
            buffer_bytes_soft: config.buffer_bytes_soft as u64,
            buffer_bytes_max: config.buffer_bytes_max as u64,
            waiting_writers: self.snapshots.room.waiting() as u64,
            refused_writes: self.snapshots.room.refused(),
            log_bytes: segments.iter().map(|(_, bytes)| bytes).sum(),
            log_segments: segments.len() as u64,
            log_replay_bytes: self
                .log_bytes_written()
                .saturating_sub(count(&counters.log_bytes_before)),
            log_backlog_bytes: backlog_bytes(&segments, Lsn(snapshot_lsn), self.read_by_all()),
            log_segments_removed: count(&counters.segments_removed),
            log_records_skipped: count(&counters.records_skipped),
            snapshot_lsn,
            snapshots: count(&counters.done),
            failed_snapshots: count(&counters.failed),
            is_failing: self.snapshots.is_failing(),
            snapshot_files: count(&counters.files),
            snapshot_rows: count(&counters.rows),
            snapshot_file_bytes: count(&counters.file_bytes),
            snapshot_durations: counters.durations.durations(),
        }
    }

    /// Bytes of the log that a start would replay.
    pub fn log_bytes_since_snapshot(&self) -> u64 {
        let before = self.snapshots.counters.log_bytes_before.load(Ordering::Relaxed);
        self.log_bytes_written().saturating_sub(before)
    }

    async fn run_step(self: &Arc<Self>, now_ns: i64, is_forced: bool) -> SnapshotStep {
        let ingest = Arc::clone(self);
        let step = tokio::spawn(async move { ingest.step(now_ns, is_forced).await });
        match step.await {
            Ok(step) => step,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => SnapshotStep::Failed(FlushError::Stopping),
        }
    }

    async fn step(self: &Arc<Self>, now_ns: i64, is_forced: bool) -> SnapshotStep {
        let snapshots = &self.snapshots;
        let mut progress = snapshots.progress.lock().await;
        let disk_is_full = snapshots.disk_is_full.swap(false, Ordering::Relaxed);
        if !self.store().has_rows() {
            progress.rows_since_ns = None;
        } else if progress.rows_since_ns.is_none() {
            progress.rows_since_ns = Some(now_ns);
        }
        if !is_forced && !disk_is_full && !self.is_due(&progress, now_ns) {
            return SnapshotStep::Idle;
        }
        let is_paused = !is_forced && progress.retry.is_some_and(|retry| now_ns < retry.at_ns);
        let step = if is_paused {
            SnapshotStep::Paused
        } else {
            self.attempt(&mut progress, now_ns).await
        };
        if is_paused && !disk_is_full {
            return step;
        }
        let made_space = self.remove_old_segments(None).await;
        if disk_is_full && !made_space {
            // What is kept for triggers alone is all that can go. Half of it a time, the oldest first.
            let backlog = self.backlog_bytes();
            if backlog > 0 {
                self.remove_old_segments(Some(backlog / 2)).await;
            }
        }
        step
    }

    fn is_due(&self, progress: &SnapshotProgress, now_ns: i64) -> bool {
        let config = &self.snapshots.config;
        let age_max = i64::try_from(config.age_max.as_nanos()).unwrap_or(i64::MAX);
        let is_old = progress
            .rows_since_ns
            .is_some_and(|since| now_ns.saturating_sub(since) >= age_max);
        let has_long_log =
            self.log_bytes_written().saturating_sub(progress.log_bytes_before) >= config.log_bytes_max;
        is_old
            || has_long_log
            || (progress.rows_since_ns.is_some() && self.store().total_bytes() >= config.buffer_bytes_soft)
    }

    async fn attempt(self: &Arc<Self>, progress: &mut SnapshotProgress, now_ns: i64) -> SnapshotStep {
        let log_bytes_before = self.log_bytes_written();
        if self.published.last() <= Lsn(self.storage.snapshot_lsn()) {
            return SnapshotStep::Idle;
        }
        let started = Instant::now();
        let (frozen, triggers) = self.published.freeze();
        let flush = Flush {
            // Looked at after the rows: their tables are in it.
            catalog: self.catalog().state(),
            progress: progress_image::encode(Lsn(frozen.lsn), &triggers),
            concurrency: self.snapshots.config.concurrency,
            part_bytes_max: self.snapshots.config.part_bytes_max,
        };
        match self.storage.flush(frozen, flush).await {
            Ok(report) => {
                self.published.merge_cursors(&triggers);
                self.snapshots.room.announce();
                *progress = SnapshotProgress {
                    rows_since_ns: self.store().has_rows().then_some(now_ns),
                    log_bytes_before,
                    retry: None,
                };
                self.note_done(&report, log_bytes_before, started.elapsed());
                SnapshotStep::Done(report)
            }
            Err(error) => {
                let pause_ns = progress.retry.map_or(PAUSE_MIN_NS, |retry| retry.pause_ns);
                progress.retry = Some(Retry {
                    at_ns: now_ns.saturating_add(pause_ns),
                    pause_ns: pause_ns.saturating_mul(2).min(PAUSE_MAX_NS),
                });
                self.note_failed(&error);
                SnapshotStep::Failed(error)
            }
        }
    }

    fn note_done(&self, report: &FlushReport, log_bytes_before: u64, duration: Duration) {
        let counters = &self.snapshots.counters;
        let add = |counter: &AtomicU64, amount: u64| counter.fetch_add(amount, Ordering::Relaxed);
        add(&counters.done, 1);
        add(&counters.files, report.files as u64);
        add(&counters.rows, report.rows as u64);
        add(&counters.file_bytes, report.file_bytes);
        counters
            .log_bytes_before
            .store(log_bytes_before, Ordering::Relaxed);
        counters.durations.observe(duration);
        tracing::info!(
            lsn = report.lsn,
            tables = report.tables,
            rows = report.rows,
            files = report.files,
            file_bytes = report.file_bytes,
            buffer_bytes = report.buffer_bytes,
            duration_ms = duration.as_millis(),
            "snapshot written"
        );
        if self.snapshots.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("snapshots can be written again");
        }
    }

    /// Reports a failure once, and then each time only to who looks closer.
    fn note_failed(&self, error: &FlushError) {
        self.snapshots.counters.failed.fetch_add(1, Ordering::Relaxed);
        if self.snapshots.is_failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "cannot write a snapshot yet");
        } else {
            tracing::error!(
                %error,
                "cannot write a snapshot: the rows stay in memory and in the log, it is tried again until it succeeds"
            );
        }
    }

    /// Removes segments of the log; `backlog_bytes_max` in the place of the setting. True when some went.
    async fn remove_old_segments(self: &Arc<Self>, backlog_bytes_max: Option<u64>) -> bool {
        let ingest = Arc::clone(self);
        let removal = tokio::task::spawn_blocking(move || ingest.remove_segments(backlog_bytes_max));
        match removal.await {
            Ok(Ok(removed)) => removed > 0,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot remove a segment of the log that is not needed any more");
                false
            }
            Err(_) => false,
        }
    }

    fn remove_segments(&self, backlog_bytes_max: Option<u64>) -> Result<usize, WalError> {
        if Arc::strong_count(&self.snapshots.log_hold) > 1 {
            return Ok(0);
        }
        let config = &self.snapshots.config;
        let read = self.read_by_all();
        let retention = Retention {
            snapshot: Lsn(self.storage.snapshot_lsn()),
            read,
            backlog_bytes_max: backlog_bytes_max.unwrap_or(config.backlog_bytes_max),
            segments_kept: config.segments_kept,
        };
        let Some(cut) = cut(&self.wal.segments(), retention) else {
            return Ok(0);
        };
        if cut.is_forced {
            self.report_left_behind(cut.keep_from);
            let skipped = cut
                .keep_from
                .0
                .saturating_sub(self.wal.first_lsn().0.max(read.0 + 1));
            self.snapshots
                .counters
                .records_skipped
                .fetch_add(skipped, Ordering::Relaxed);
        }
        let removed = self.wal.truncate_before(cut.keep_from)?;
        self.snapshots
            .counters
            .segments_removed
            .fetch_add(removed as u64, Ordering::Relaxed);
        tracing::debug!(
            segments = removed,
            bytes = cut.bytes,
            first = cut.keep_from.0,
            "log shortened"
        );
        Ok(removed)
    }

    /// Names the triggers that will not find what they have yet to read. Each of them reports it too when it comes there.
    fn report_left_behind(&self, keep_from: Lsn) {
        for (trigger, database, name, read) in self.readers() {
            if read.next() < keep_from {
                tracing::warn!(
                    database,
                    trigger = name,
                    trigger_id = trigger.trigger_id,
                    read_through = read.0,
                    continues_at = keep_from.0,
                    records = keep_from.0 - read.0 - 1,
                    "the log is too long to be kept for a trigger that lags: it will skip records (--trigger-backlog-limit)"
                );
            }
        }
    }

    fn backlog_bytes(&self) -> u64 {
        backlog_bytes(
            &self.wal.segments(),
            Lsn(self.storage.snapshot_lsn()),
            self.read_by_all(),
        )
    }

    /// Everything up to here was read by every data-write trigger, and would be known to be after a crash.
    pub(crate) fn read_by_all(&self) -> Lsn {
        let read = self.readers().into_iter().map(|(_, _, _, read)| read);
        read.min().unwrap_or(Lsn(u64::MAX))
    }

    /// All data-write triggers, with the names of database and trigger and how far they have read. One that is disabled
    /// goes on where it stopped when it is enabled again, and so it counts.
    fn readers(&self) -> Vec<(TriggerKey, String, String, Lsn)> {
        let state = self.catalog().state();
        let triggers = state.databases().flat_map(|database| {
            let readers = database
                .triggers()
                .filter(|trigger| trigger.spec.plugin_type() == PluginType::WalRows);
            readers.map(|trigger| {
                let key = TriggerKey {
                    database: database.id,
                    trigger_id: trigger.trigger_id,
                };
                let recorded = self.cursor(key).map_or(0, |position| position.through());
                let read = Lsn(recorded.max(trigger.created_at_lsn));
                (key, database.name.to_string(), trigger.trigger_name.clone(), read)
            })
        });
        triggers.collect()
    }
}
