//! `GET /metrics`: what the server and its triggers have done, for Prometheus (`spec/engine.md` 0.33).
//!
//! The number of samples is bounded by the number of triggers: no label has a value that a client chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use tidemill_engine::{RunStatus, TriggerReport};
use tidemill_ingest::{IngestStats, WriteError, WriteOutcome};
use tidemill_metrics::{CONTENT_TYPE as EXPOSITION, Exposition, Kind};
use tidemill_worker::resident_bytes_of;

use crate::compaction_metrics::write_compaction;
use crate::error::ApiError;
use crate::file_metrics::write_files;
use crate::state::AppState;
use crate::store_metrics::write_object_store;

/// Classes of HTTP statuses: `1xx` to `5xx`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What the routes count.
pub(crate) struct ServerMetrics {
    started: Instant,
    started_at: SystemTime,
    responses: [AtomicU64; CLASSES.len()],
    writes_done: AtomicU64,
    writes_failed: AtomicU64,
    lines_written: AtomicU64,
    lines_rejected: AtomicU64,
    bytes_received: AtomicU64,
}

impl ServerMetrics {
    /// Nothing was counted yet; the server started now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            responses: Default::default(),
            writes_done: AtomicU64::new(0),
            writes_failed: AtomicU64::new(0),
            lines_written: AtomicU64::new(0),
            lines_rejected: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        }
    }

    /// Counts an answer.
    pub(crate) fn responded(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(count) = self.responses.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a write of so many bytes.
    pub(crate) fn wrote(&self, bytes: usize, outcome: &Result<WriteOutcome, WriteError>) {
        let add = |count: &AtomicU64, amount: usize| count.fetch_add(amount as u64, Ordering::Relaxed);
        add(&self.bytes_received, bytes);
        match outcome {
            Ok(outcome) => {
                add(&self.writes_done, 1);
                add(&self.lines_written, outcome.rows);
                add(&self.lines_rejected, outcome.rejected_count);
            }
            Err(error) => {
                add(&self.writes_failed, 1);
                if let WriteError::Rejected(lines) = error {
                    add(&self.lines_rejected, lines.len());
                }
            }
        }
    }
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(state): State<Arc<AppState>>) -> Result<Response, ApiError> {
    // The memory of processes is read from files.
    let written = tokio::task::spawn_blocking(move || text(&state)).await;
    let text = written.map_err(|_| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be written",
        )
    })?;
    let mut response = text.into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
    Ok(response)
}

fn text(state: &AppState) -> String {
    let mut text = Exposition::default();
    write_server(&mut text, state);
    write_object_store(&mut text, &state.object_store);
    write_triggers(&mut text, &state.engine.trigger_reports());
    text.into_text()
}

fn write_server(text: &mut Exposition, state: &AppState) {
    let metrics = &state.metrics;
    let count = |count: &AtomicU64| number(count.load(Ordering::Relaxed));
    text.metric(
        "tidemill_build_info",
        "The version of the server; the value is always 1.",
        Kind::Gauge,
        [([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    );
    let started_at = metrics.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    text.single(
        "process_start_time_seconds",
        "When the server started, in seconds since the epoch.",
        Kind::Gauge,
        started_at.as_secs_f64(),
    );
    text.single(
        "tidemill_uptime_seconds",
        "For how long the server has been running.",
        Kind::Gauge,
        metrics.started.elapsed().as_secs_f64(),
    );
    if let Some(bytes) = resident_bytes_of(std::process::id()) {
        text.single(
            "process_resident_memory_bytes",
            "Resident memory of the server itself, without its plugins' processes.",
            Kind::Gauge,
            number(bytes),
        );
    }
    let responses = CLASSES.iter().zip(&metrics.responses);
    text.metric(
        "tidemill_http_responses_total",
        "HTTP answers by class of their status.",
        Kind::Counter,
        responses.map(|(class, responses)| ([("class", *class)], count(responses))),
    );
    text.metric(
        "tidemill_write_requests_total",
        "Write requests by outcome.",
        Kind::Counter,
        [
            ([("outcome", "ok")], count(&metrics.writes_done)),
            ([("outcome", "failed")], count(&metrics.writes_failed)),
        ],
    );
    let totals = [
        (
            "tidemill_write_lines_total",
            "Lines that clients have written.",
            &metrics.lines_written,
        ),
        (
            "tidemill_write_rejected_lines_total",
            "Lines of clients that were rejected; of a request that was refused for them, those that its answer names.",
            &metrics.lines_rejected,
        ),
        (
            "tidemill_write_bytes_total",
            "Bytes of line protocol from clients, decompressed.",
            &metrics.bytes_received,
        ),
    ];
    for (name, help, total) in totals {
        text.single(name, help, Kind::Counter, count(total));
    }
    let queries = state.query.counts();
    text.durations(
        "tidemill_query_duration_seconds",
        "How long queries took from their start to their last row, those of plugins included.",
        [([], queries.durations)],
    );
    text.single(
        "tidemill_queries_failed_total",
        "Queries that ended with an error.",
        Kind::Counter,
        number(queries.failed),
    );
    text.single(
        "tidemill_queries_cancelled_total",
        "Queries whose clients have left.",
        Kind::Counter,
        number(queries.cancelled),
    );
    text.single(
        "tidemill_log_position",
        "The number of the newest record of the log.",
        Kind::Gauge,
        number(state.ingest.committed().borrow().0),
    );
    write_storage(text, &state.ingest.stats());
    write_files(text, state.ingest.storage());
    write_compaction(text, &state.compactor.stats());
}

/// The buffer, the log behind it, and the snapshots in between.
fn write_storage(text: &mut Exposition, stats: &IngestStats) {
    for (name, help, kind, value) in STORAGE_METRICS {
        text.single(name, help, *kind, number(value(stats)));
    }
    text.metric(
        "tidemill_snapshots_total",
        "Attempts at a snapshot by outcome.",
        Kind::Counter,
        [
            ([("outcome", "ok")], number(stats.snapshots)),
            ([("outcome", "failed")], number(stats.failed_snapshots)),
        ],
    );
    text.durations(
        "tidemill_snapshot_duration_seconds",
        "How long snapshots took from the first look at the buffer to the last file in its place.",
        [([], stats.snapshot_durations.clone())],
    );
}

type StorageMetric = (&'static str, &'static str, Kind, fn(&IngestStats) -> u64);

/// The metrics of the way from the buffer to files that have one value.
const STORAGE_METRICS: &[StorageMetric] = &[
    (
        "tidemill_buffer_bytes",
        "Memory of the rows that are in no file.",
        Kind::Gauge,
        |stats| stats.buffer_bytes,
    ),
    (
        "tidemill_buffer_soft_limit_bytes",
        "Memory of these rows from which on a snapshot is made.",
        Kind::Gauge,
        |stats| stats.buffer_bytes_soft,
    ),
    (
        "tidemill_buffer_limit_bytes",
        "Memory of these rows from which on writers wait, and are refused.",
        Kind::Gauge,
        |stats| stats.buffer_bytes_max,
    ),
    (
        "tidemill_write_waiting",
        "Writers that wait for room in the buffer.",
        Kind::Gauge,
        |stats| stats.waiting_writers,
    ),
    (
        "tidemill_write_refused_total",
        "Writes that were refused because there was no room in the buffer.",
        Kind::Counter,
        |stats| stats.refused_writes,
    ),
    (
        "tidemill_log_bytes",
        "Bytes of the log that are kept.",
        Kind::Gauge,
        |stats| stats.log_bytes,
    ),
    (
        "tidemill_log_segments",
        "Segments of the log that are kept.",
        Kind::Gauge,
        |stats| stats.log_segments,
    ),
    (
        "tidemill_log_replay_bytes",
        "Bytes of the log that a start would replay.",
        Kind::Gauge,
        |stats| stats.log_replay_bytes,
    ),
    (
        "tidemill_log_backlog_bytes",
        "Bytes of the log that are kept for triggers alone.",
        Kind::Gauge,
        |stats| stats.log_backlog_bytes,
    ),
    (
        "tidemill_log_segments_removed_total",
        "Segments of the log that were removed.",
        Kind::Counter,
        |stats| stats.log_segments_removed,
    ),
    (
        "tidemill_log_records_skipped_total",
        "Records of the log that were removed although a trigger had not read them.",
        Kind::Counter,
        |stats| stats.log_records_skipped,
    ),
    (
        "tidemill_snapshot_position",
        "The number of the newest record of the log of which all rows are in files.",
        Kind::Gauge,
        |stats| stats.snapshot_lsn,
    ),
    (
        "tidemill_snapshot_failing",
        "1 if the last attempt at a snapshot failed.",
        Kind::Gauge,
        |stats| u64::from(stats.is_failing),
    ),
    (
        "tidemill_snapshot_files_total",
        "Files that snapshots have written.",
        Kind::Counter,
        |stats| stats.snapshot_files,
    ),
    (
        "tidemill_snapshot_rows_total",
        "Rows of the buffer that became files, those of one point counted each.",
        Kind::Counter,
        |stats| stats.snapshot_rows,
    ),
    (
        "tidemill_snapshot_file_bytes_total",
        "Bytes of these files.",
        Kind::Counter,
        |stats| stats.snapshot_file_bytes,
    ),
];

fn write_triggers(text: &mut Exposition, reports: &[TriggerReport]) {
    let states = reports.iter().map(|report| {
        let [database, trigger] = labels(report);
        let labels = [
            database,
            trigger,
            ("type", report.trigger_type),
            ("state", report.state.name()),
        ];
        (labels, 1.0)
    });
    text.metric(
        "tidemill_trigger_state",
        "The state of a trigger, as a label; the value is always 1.",
        Kind::Gauge,
        states,
    );
    let runs = reports.iter().flat_map(|report| {
        let statuses = RunStatus::ALL.into_iter().zip(report.runs);
        statuses.map(|(status, runs)| {
            let [database, trigger] = labels(report);
            ([database, trigger, ("status", status.name())], number(runs))
        })
    });
    text.metric(
        "tidemill_trigger_runs_total",
        "Runs that have ended, by how they did.",
        Kind::Counter,
        runs,
    );
    let durations = reports
        .iter()
        .map(|report| (labels(report), report.durations.clone()));
    text.durations(
        "tidemill_trigger_run_duration_seconds",
        "How long runs took, from their first attempt to the end of their last one.",
        durations,
    );
    for (name, help, kind, value) in TRIGGER_METRICS {
        let samples = reports
            .iter()
            .filter_map(|report| Some((labels(report), value(report)?)));
        text.metric(name, help, *kind, samples);
    }
}

fn labels(report: &TriggerReport) -> [(&str, &str); 2] {
    [("database", &report.database), ("trigger", &report.trigger_name)]
}

type TriggerMetric = (
    &'static str,
    &'static str,
    Kind,
    fn(&TriggerReport) -> Option<f64>,
);

/// The metrics that have one value a trigger.
const TRIGGER_METRICS: &[TriggerMetric] = &[
    (
        "tidemill_trigger_failed_attempts_total",
        "Attempts of runs that have failed.",
        Kind::Counter,
        |report| Some(number(report.failed_attempts)),
    ),
    (
        "tidemill_trigger_timeouts_total",
        "Failed attempts that had exceeded their time limit.",
        Kind::Counter,
        |report| Some(number(report.timed_out_attempts)),
    ),
    (
        "tidemill_trigger_process_kills_total",
        "Processes that the server has killed.",
        Kind::Counter,
        |report| Some(number(report.kills)),
    ),
    (
        "tidemill_trigger_process_restarts_total",
        "Processes that were started in the place of others.",
        Kind::Counter,
        |report| Some(number(report.restarts)),
    ),
    (
        "tidemill_trigger_rows_in_total",
        "Rows that runs were called with.",
        Kind::Counter,
        |report| Some(number(report.rows_in)),
    ),
    (
        "tidemill_trigger_lines_written_total",
        "Lines that were committed with runs.",
        Kind::Counter,
        |report| Some(number(report.lines_written)),
    ),
    (
        "tidemill_trigger_refused_requests_total",
        "Requests that were answered with 503.",
        Kind::Counter,
        |report| Some(number(report.refused_requests)),
    ),
    (
        "tidemill_trigger_skipped_runs_total",
        "Instants of a schedule that passed without a run.",
        Kind::Counter,
        |report| Some(number(report.skipped_runs)),
    ),
    (
        "tidemill_trigger_skipped_rows_total",
        "Rows of runs that have failed and are not repeated.",
        Kind::Counter,
        |report| Some(number(report.skipped_rows)),
    ),
    (
        "tidemill_trigger_skipped_records_total",
        "Records of the log that were removed before the trigger had read them.",
        Kind::Counter,
        |report| Some(number(report.skipped_records)),
    ),
    (
        "tidemill_trigger_unrecorded_runs_total",
        "Runs that are not in system.processing_engine_runs, because there were too many.",
        Kind::Counter,
        |report| Some(number(report.unrecorded_runs)),
    ),
    (
        "tidemill_trigger_runs_in_flight",
        "Runs that were handed to the trigger's processes and have not ended.",
        Kind::Gauge,
        |report| Some(number(report.runs_in_flight as u64)),
    ),
    (
        "tidemill_trigger_resident_bytes",
        "Resident memory of the trigger's processes.",
        Kind::Gauge,
        |report| report.resident_bytes().map(number),
    ),
    (
        "tidemill_trigger_lag_rows",
        "Rows that a data-write trigger has yet to run.",
        Kind::Gauge,
        |report| report.lag?.backlog.rows.map(number),
    ),
    (
        "tidemill_trigger_lag_bytes",
        "The size of these rows in memory.",
        Kind::Gauge,
        |report| report.lag?.backlog.bytes.map(number),
    ),
    (
        "tidemill_trigger_lag_seconds",
        "For how long the oldest of these rows has been waiting.",
        Kind::Gauge,
        |report| report.lag?.seconds,
    ),
    (
        "tidemill_trigger_last_run_timestamp_seconds",
        "When the last run ended, in seconds since the epoch.",
        Kind::Gauge,
        |report| {
            let (time_ns, _) = report.last_run?;
            Some(Duration::from_nanos(u64::try_from(time_ns).ok()?).as_secs_f64())
        },
    ),
];

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
pub(crate) fn number(value: u64) -> f64 {
    value as f64
}
