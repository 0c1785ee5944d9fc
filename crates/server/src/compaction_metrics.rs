//! What compaction has done, for `GET /metrics`.

use tidemill_metrics::{Exposition, Kind};
use tidemill_store::compaction::CompactionStats;

pub(crate) fn write_compaction(text: &mut Exposition, stats: &CompactionStats) {
    text.metric(
        "tidemill_compaction_jobs_total",
        "Jobs of compaction by outcome.",
        Kind::Counter,
        [("ok", stats.jobs), ("failed", stats.failures)]
            .map(|(outcome, count)| ([("outcome", outcome)], count as f64)),
    );
    let directions = |read: u64, written: u64| {
        [("in", read), ("out", written)].map(|(direction, count)| ([("direction", direction)], count as f64))
    };
    let amounts = [
        (
            "tidemill_compaction_files_total",
            "Files that compaction has replaced (in), and those that took their place (out).",
            directions(stats.files_in, stats.files_out),
        ),
        (
            "tidemill_compaction_bytes_total",
            "Bytes of the files that compaction has replaced (in), and of those that took their place (out).",
            directions(stats.bytes_in, stats.bytes_out),
        ),
        (
            "tidemill_compaction_rows_total",
            "Rows of the files that compaction has replaced (in), and of those that took their place (out).",
            directions(stats.rows_in, stats.rows_out),
        ),
    ];
    for (name, help, values) in amounts {
        text.metric(name, help, Kind::Counter, values);
    }
    text.single(
        "tidemill_compaction_seconds_total",
        "Time that jobs took, pauses included.",
        Kind::Counter,
        stats.busy.as_secs_f64(),
    );
    text.single(
        "tidemill_compaction_damaged_files",
        "Files that compaction has found damaged since the start, and leaves as they are; the log names them.",
        Kind::Gauge,
        stats.damaged_files as f64,
    );
    text.metric(
        "tidemill_objects_removed_total",
        "Objects that were removed: of files that compaction has replaced, and those that a crash had left.",
        Kind::Counter,
        [
            ("replaced", stats.garbage_removed),
            ("orphan", stats.orphans_removed),
        ]
        .map(|(reason, count)| ([("reason", reason)], count as f64)),
    );
}
