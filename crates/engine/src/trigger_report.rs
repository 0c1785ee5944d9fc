//! What can be told about a trigger at a moment: for `system.processing_engine_trigger_status` and the metrics
//! (engine.md 0.32, 0.33).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_catalog::Database;
use tidemill_ingest::{Backlog, Ingest, Lsn, TriggerKey};
use tidemill_metrics::Durations;
use tidemill_triggers::{PluginType, TriggerDefinition};

use crate::observations::Observations;
use crate::plugin_logs::now_ns;
use crate::run_history::RunStatus;
use crate::trigger_stats::{LastError, Seen, TriggerStats};
use crate::worker_session::WorkerState;
use crate::writes_runner::table_filter;

/// What a trigger is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerState {
    /// Its process takes runs.
    Running,
    /// Its process is on its way.
    Starting,
    /// It has no process; another attempt will be made.
    Down,
    /// It has no process because there is no Python.
    PythonUnavailable,
    /// It has nothing more to run.
    Ended,
    /// It is disabled.
    Disabled,
}

impl TriggerState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Starting,
        Self::Down,
        Self::PythonUnavailable,
        Self::Ended,
        Self::Disabled,
    ];

    /// The name in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Down => "down",
            Self::PythonUnavailable => "python_unavailable",
            Self::Ended => "ended",
            Self::Disabled => "disabled",
        }
    }
}

/// How far a data-write trigger is behind the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// The log position up to which it has run everything.
    pub cursor: u64,
    /// What it has yet to run.
    pub backlog: Backlog,
    /// For how long the oldest of it has been waiting.
    pub seconds: Option<f64>,
}

/// A process that runs a trigger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessReport {
    /// Its id.
    pub id: Option<u32>,
    /// Its resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// What it has taken from itself, in one line.
    pub sandbox: Option<String>,
}

/// Everything that is known about a trigger. What is counted, is counted since the server started.
#[derive(Debug, Clone)]
pub struct TriggerReport {
    /// The name of its database.
    pub database: String,
    /// Its name.
    pub trigger_name: String,
    /// `writes`, `schedule` or `request`.
    pub trigger_type: &'static str,
    /// What it is doing.
    pub state: TriggerState,
    /// Why, where that is not obvious.
    pub reason: Option<String>,
    /// Since when, in nanoseconds since the epoch.
    pub since_ns: Option<i64>,
    /// Its processes: one, unless it is a request trigger with several.
    pub processes: Vec<ProcessReport>,
    /// Runs that have begun and not ended.
    pub runs_in_flight: usize,
    /// Runs that have ended, in the order of [`RunStatus::ALL`].
    pub runs: [u64; RunStatus::ALL.len()],
    /// How long runs took.
    pub durations: Durations,
    /// Attempts that have failed.
    pub failed_attempts: u64,
    /// Those of them that had exceeded their time limit.
    pub timed_out_attempts: u64,
    /// Rows that runs were called with.
    pub rows_in: u64,
    /// Lines that runs have written.
    pub lines_written: u64,
    /// Runs that are not in `system.processing_engine_runs`.
    pub unrecorded_runs: u64,
    /// Requests that were refused.
    pub refused_requests: u64,
    /// Instants of a schedule that passed without a run.
    pub skipped_runs: u64,
    /// Rows of runs that were given up.
    pub skipped_rows: u64,
    /// Records of the log that were removed before the trigger had read them (`--trigger-backlog-limit`).
    pub skipped_records: u64,
    /// When it was first moved on past such records, in nanoseconds since the epoch.
    pub skipped_since_ns: Option<i64>,
    /// Processes that were started in the place of others.
    pub restarts: u64,
    /// Processes that the server has killed.
    pub kills: u64,
    /// When the last run ended, in nanoseconds since the epoch, and how.
    pub last_run: Option<(i64, RunStatus)>,
    /// When something failed last, in nanoseconds since the epoch, and what.
    pub last_error: Option<(i64, Arc<str>)>,
    /// Of a data-write trigger.
    pub lag: Option<Lag>,
}

impl TriggerReport {
    /// Reports on the triggers of a database, by name.
    pub(crate) fn of_database(
        ingest: &Ingest,
        observations: &Observations,
        database: &Database,
    ) -> Vec<Self> {
        let triggers = database.triggers();
        let mut reports: Vec<Self> = triggers
            .map(|definition| {
                let key = TriggerKey {
                    database: database.id,
                    trigger_id: definition.trigger_id,
                };
                Self::of_trigger(ingest, observations, key, definition)
            })
            .collect();
        reports.sort_by(|first, second| first.trigger_name.cmp(&second.trigger_name));
        reports
    }

    fn of_trigger(
        ingest: &Ingest,
        observations: &Observations,
        key: TriggerKey,
        definition: &TriggerDefinition,
    ) -> Self {
        // One that was never started has counted nothing yet.
        let stats = observations
            .triggers
            .of_trigger(key, &definition.trigger_name, &observations.runs);
        let seen = stats.seen();
        let (state, reason) = state_of(definition, &seen);
        let sessions = if definition.disabled {
            Vec::new()
        } else {
            stats.sessions()
        };
        let workers = sessions.iter().filter_map(|session| session.worker());
        let processes = workers.map(|worker| ProcessReport {
            id: worker.process_id(),
            resident_bytes: worker.resident_bytes(),
            sandbox: worker.sandbox(),
        });
        let plugin_type = definition.spec.plugin_type();
        let reads_the_log = plugin_type == PluginType::WalRows;
        Self {
            database: definition.database_name.clone(),
            trigger_name: definition.trigger_name.clone(),
            trigger_type: match plugin_type {
                PluginType::WalRows => "writes",
                PluginType::Schedule => "schedule",
                PluginType::Request => "request",
            },
            state,
            reason,
            since_ns: seen.iter().map(|seen| seen.since_ns).max(),
            processes: processes.collect(),
            runs_in_flight: sessions.iter().map(|session| session.runs_in_flight()).sum(),
            runs: RunStatus::ALL.map(|status| stats.runs(status)),
            durations: stats.durations.durations(),
            failed_attempts: stats.failed_attempts.get(),
            timed_out_attempts: stats.timed_out_attempts.get(),
            rows_in: stats.rows_in.get(),
            lines_written: stats.lines_written.get(),
            unrecorded_runs: stats.unrecorded_runs.get(),
            refused_requests: stats.refused_requests.get(),
            skipped_runs: stats.skipped_runs.get(),
            skipped_rows: stats.skipped_rows.get(),
            skipped_records: stats.skipped_records.get(),
            skipped_since_ns: stats.skipped_since_ns(),
            restarts: stats.restarts.get(),
            kills: stats.processes_killed.get(),
            last_run: stats.last_run(),
            last_error: stats
                .last_error()
                .map(|LastError { time_ns, text }| (time_ns, text)),
            lag: reads_the_log.then(|| lag_of(ingest, key, definition, &stats)),
        }
    }

    /// Resident memory of all its processes in bytes, if there are any.
    pub fn resident_bytes(&self) -> Option<u64> {
        let known = self.processes.iter().filter_map(|process| process.resident_bytes);
        known.reduce(|sum, bytes| sum + bytes)
    }

    /// Runs that did not succeed; one that was stopped has not failed.
    pub fn failed_runs(&self) -> u64 {
        let runs = RunStatus::ALL.into_iter().zip(self.runs);
        let failed = runs.filter(|(status, _)| {
            !matches!(status, RunStatus::Ok | RunStatus::Stopped | RunStatus::Abandoned)
        });
        failed.map(|(_, count)| count).sum()
    }
}

fn state_of(definition: &TriggerDefinition, seen: &[Seen]) -> (TriggerState, Option<String>) {
    if definition.disabled {
        return (TriggerState::Disabled, definition.disabled_reason.clone());
    }
    let down = seen.iter().filter_map(|seen| match &seen.state {
        WorkerState::Down { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = down.clone().next();
    let is = |state: &WorkerState| seen.iter().any(|seen| seen.state == *state);
    if is(&WorkerState::Ready) {
        let reason =
            reason.map(|reason| format!("{} of {} processes are down: {reason}", down.count(), seen.len()));
        return (TriggerState::Running, reason);
    }
    match reason {
        Some(reason) => match reason.strip_prefix("python_unavailable: ") {
            Some(reason) => (TriggerState::PythonUnavailable, Some(reason.to_owned())),
            None => (TriggerState::Down, Some(reason.clone())),
        },
        None if seen.is_empty() || is(&WorkerState::Starting) => (TriggerState::Starting, None),
        None => (TriggerState::Ended, None),
    }
}

fn lag_of(ingest: &Ingest, key: TriggerKey, definition: &TriggerDefinition, stats: &TriggerStats) -> Lag {
    let recorded = ingest.cursor(key).map_or(0, |position| position.through());
    let end = ingest.committed().borrow().0;
    let started_at = definition.created_at_lsn.min(end);
    let cursor = stats.position().max(recorded).max(started_at);
    let filter = table_filter(&ingest.catalog().state(), key.database, &definition.spec);
    let backlog = ingest.backlog_after(Lsn(cursor), &filter);
    let waiting_since = |oldest_ns: i64| now_ns().saturating_sub(oldest_ns).max(0);
    let seconds = match (backlog.rows, backlog.oldest_ns) {
        (Some(0), _) => Some(0.0),
        (_, oldest_ns) => oldest_ns.map(|oldest_ns| {
            std::time::Duration::from_nanos(waiting_since(oldest_ns).unsigned_abs()).as_secs_f64()
        }),
    };
    Lag {
        cursor,
        backlog,
        seconds,
    }
}

/// The columns of the status table.
pub(crate) fn status_schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, None);
    let columns = [
        ("trigger_name", DataType::Utf8, false),
        ("trigger_type", DataType::Utf8, false),
        ("state", DataType::Utf8, false),
        ("reason", DataType::Utf8, true),
        ("since", time(), true),
        ("processes", DataType::Int64, false),
        ("process_id", DataType::Int64, true),
        ("resident_bytes", DataType::Int64, true),
        ("sandbox", DataType::Utf8, true),
        ("restarts", DataType::Int64, false),
        ("runs_in_flight", DataType::Int64, false),
        ("runs", DataType::Int64, false),
        ("failed_runs", DataType::Int64, false),
        ("last_run_time", time(), true),
        ("last_run_status", DataType::Utf8, true),
        ("last_error_time", time(), true),
        ("last_error", DataType::Utf8, true),
        ("cursor", DataType::Int64, true),
        ("lag_rows", DataType::Int64, true),
        ("lag_bytes", DataType::Int64, true),
        ("lag_seconds", DataType::Float64, true),
        ("lag_is_estimated", DataType::Boolean, true),
        ("skipped_records", DataType::Int64, false),
        ("skipped_since", time(), true),
    ];
    let fields = columns.map(|(name, data_type, is_nullable)| Field::new(name, data_type, is_nullable));
    Arc::new(Schema::new(fields.to_vec()))
}

/// Reports as rows of the status table.
pub(crate) fn status_rows(reports: &[TriggerReport]) -> RecordBatch {
    let texts = |text: fn(&TriggerReport) -> Option<&str>| -> ArrayRef {
        Arc::new(reports.iter().map(text).collect::<StringArray>())
    };
    let times = |time: fn(&TriggerReport) -> Option<i64>| -> ArrayRef {
        Arc::new(reports.iter().map(time).collect::<TimestampNanosecondArray>())
    };
    let numbers = |number: fn(&TriggerReport) -> Option<u64>| -> ArrayRef {
        let numbers = reports.iter().map(number);
        let numbers = numbers.map(|number| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)));
        Arc::new(numbers.collect::<Int64Array>())
    };
    let backlog = |report: &TriggerReport| report.lag.map(|lag| lag.backlog);
    let lag_seconds = reports
        .iter()
        .map(|report| report.lag.and_then(|lag| lag.seconds));
    let estimated = reports
        .iter()
        .map(|report| backlog(report).map(|backlog| backlog.is_estimated));
    let columns = vec![
        texts(|report| Some(&report.trigger_name)),
        texts(|report| Some(report.trigger_type)),
        texts(|report| Some(report.state.name())),
        texts(|report| report.reason.as_deref()),
        times(|report| report.since_ns),
        numbers(|report| Some(report.processes.len() as u64)),
        numbers(|report| report.processes.first()?.id.map(u64::from)),
        numbers(TriggerReport::resident_bytes),
        texts(|report| report.processes.first()?.sandbox.as_deref()),
        numbers(|report| Some(report.restarts)),
        numbers(|report| Some(report.runs_in_flight as u64)),
        numbers(|report| Some(report.runs.iter().sum())),
        numbers(|report| Some(report.failed_runs())),
        times(|report| report.last_run.map(|(time_ns, _)| time_ns)),
        texts(|report| report.last_run.map(|(_, status)| status.name())),
        times(|report| report.last_error.as_ref().map(|(time_ns, _)| *time_ns)),
        texts(|report| report.last_error.as_ref().map(|(_, text)| &**text)),
        numbers(|report| report.lag.map(|lag| lag.cursor)),
        numbers(|report| report.lag?.backlog.rows),
        numbers(|report| report.lag?.backlog.bytes),
        Arc::new(lag_seconds.collect::<Float64Array>()),
        Arc::new(estimated.collect::<BooleanArray>()),
        numbers(|report| Some(report.skipped_records)),
        times(|report| report.skipped_since_ns),
    ];
    RecordBatch::try_new(status_schema(), columns).expect("columns are made as the schema says")
}
