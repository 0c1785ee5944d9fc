//! Runs that have ended: the rows of `system.processing_engine_runs` (engine.md 0.32).
//!
//! A request trigger may end forty thousand runs a second, so not every run becomes a row: of one trigger a thousand at
//! once, and then one a second. Runs that have failed have a larger share of their own. How many became none is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::allowance::Rate;
use crate::kept_rows::KeptRow;
use crate::plugin_logs::now_ns;
use crate::run_execution::RunError;
use crate::trigger_stats::TriggerStats;

/// Rows for runs that succeeded.
pub(crate) const KEPT_SUCCESSES: Rate = Rate {
    at_once: 1_000,
    per_second: 1,
};
/// Rows for runs that did not.
pub(crate) const KEPT_FAILURES: Rate = Rate {
    at_once: 10_000,
    per_second: 10,
};
/// Longest error of a row, in bytes; the log has all of it.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// How a run has ended, after all its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It returned, and what it wrote is committed.
    Ok,
    /// The plugin failed, or what it wrote was refused.
    Failed,
    /// It failed, or was ended, beyond its time limit.
    TimedOut,
    /// Its process ended before it: by itself, or killed.
    Killed,
    /// The trigger was stopped; a run on written data is repeated when it is started.
    Stopped,
    /// The client of a request left before it had its answer, and the run was ended.
    Abandoned,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Failed,
        Self::TimedOut,
        Self::Killed,
        Self::Stopped,
        Self::Abandoned,
    ];

    /// The name in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub(crate) struct RunRow {
    pub(crate) start_ns: i64,
    pub(crate) run_id: Box<str>,
    pub(crate) trigger_name: Arc<str>,
    pub(crate) duration: Duration,
    pub(crate) rows_in: u64,
    pub(crate) lines_written: u64,
    pub(crate) attempts: u32,
    pub(crate) status: RunStatus,
    pub(crate) error: Option<Arc<str>>,
}

impl KeptRow for RunRow {
    const FOLDER: &'static str = "plugin_runs";

    fn schema() -> SchemaRef {
        let column = |name, data_type, nullable| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(vec![
            column(
                "start_time",
                DataType::Timestamp(TimeUnit::Nanosecond, None),
                false,
            ),
            column("run_id", DataType::Utf8, false),
            column("trigger_name", DataType::Utf8, false),
            column("duration_ns", DataType::Int64, false),
            column("rows_in", DataType::Int64, false),
            column("lines_written", DataType::Int64, false),
            column("attempts", DataType::Int64, false),
            column("status", DataType::Utf8, false),
            column("error", DataType::Utf8, true),
        ]))
    }

    fn batch_of(rows: &[Self]) -> RecordBatch {
        let numbers = |number: fn(&Self) -> u64| -> ArrayRef {
            let numbers = rows
                .iter()
                .map(|row| i64::try_from(number(row)).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(
                rows.iter().map(|row| row.start_ns),
            )),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.run_id))),
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| &row.trigger_name),
            )),
            numbers(|row| u64::try_from(row.duration.as_nanos()).unwrap_or(u64::MAX)),
            numbers(|row| row.rows_in),
            numbers(|row| row.lines_written),
            numbers(|row| u64::from(row.attempts)),
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| row.status.name()),
            )),
            Arc::new(
                rows.iter()
                    .map(|row| row.error.as_deref())
                    .collect::<StringArray>(),
            ),
        ];
        RecordBatch::try_new(Self::schema(), columns).expect("columns are made as the schema says")
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.run_id.len() + self.error.as_ref().map_or(0, |error| error.len())
    }
}

/// A run that is going on. It is counted when this is dropped, wherever that happens: as stopped, unless it is known how
/// it ended.
pub(crate) struct RunRecord {
    stats: Arc<TriggerStats>,
    run_id: String,
    rows_in: u64,
    start_ns: i64,
    started: Instant,
    attempt_started: Instant,
    attempts: u32,
    lines_written: u64,
    status: RunStatus,
    error: Option<Arc<str>>,
}

impl RunRecord {
    /// A run is about to begin. One that is never handed over has not begun, and is not counted.
    pub(crate) fn begin(stats: Arc<TriggerStats>, run_id: String, rows_in: u64) -> Self {
        let now = Instant::now();
        Self {
            stats,
            run_id,
            rows_in,
            start_ns: 0,
            started: now,
            attempt_started: now,
            attempts: 0,
            lines_written: 0,
            status: RunStatus::Stopped,
            error: None,
        }
    }

    /// It is handed to a worker, for the first time or again.
    pub(crate) fn hand_over(&mut self) {
        self.attempt_started = Instant::now();
        if self.attempts == 0 {
            self.start_ns = now_ns();
            self.started = self.attempt_started;
        }
        self.attempts += 1;
        self.status = RunStatus::Stopped;
    }

    /// An attempt has succeeded and committed so many lines.
    pub(crate) fn succeed(&mut self, lines_written: usize) {
        self.status = RunStatus::Ok;
        self.lines_written = lines_written as u64;
        self.error = None;
    }

    /// Its client has left, and it was ended for that.
    pub(crate) fn abandon(&mut self) {
        self.status = RunStatus::Abandoned;
    }

    /// Whether the attempt is known to have failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// An attempt has failed.
    pub(crate) fn fail(&mut self, error: &RunError) {
        match error {
            RunError::Stopped => self.status = RunStatus::Stopped,
            RunError::Lost(text) => self.fail_as(RunStatus::Killed, text),
            RunError::Plugin(_) | RunError::WriteBack(_) => self.fail_as(RunStatus::Failed, error.text()),
        }
    }

    /// An attempt has failed in this way, unless it had its time: then that was it.
    pub(crate) fn fail_as(&mut self, status: RunStatus, text: &str) {
        let had_its_time = self.attempt_started.elapsed() >= self.stats.time_limit();
        self.status = if had_its_time { RunStatus::TimedOut } else { status };
        let text: Arc<str> = text[..text.floor_char_boundary(ERROR_BYTES_MAX)].into();
        self.stats.attempt_failed(self.status, Arc::clone(&text));
        self.error = Some(text);
    }
}

impl Drop for RunRecord {
    fn drop(&mut self) {
        if self.attempts == 0 {
            return;
        }
        let duration = self.started.elapsed();
        self.stats
            .run_ended(self.status, duration, self.rows_in, self.lines_written, || {
                RunRow {
                    start_ns: self.start_ns,
                    run_id: std::mem::take(&mut self.run_id).into(),
                    trigger_name: self.stats.trigger_name(),
                    duration,
                    rows_in: self.rows_in,
                    lines_written: self.lines_written,
                    attempts: self.attempts,
                    status: self.status,
                    error: self.error.take(),
                }
            });
    }
}
