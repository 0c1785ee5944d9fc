//! The figures: their names, units, and the budget that each is held against.

use super::budget::Budget::{self, AtLeast, AtMost, NoneLessIsBetter, NoneMoreIsBetter};
use super::unit::Unit::{
    self, Mebibytes, Megabytes, MegabytesPerSecond, Milliseconds, MillisecondsPerMinute, Ratio,
    RequestsPerSecond, RowsPerSecond, Seconds,
};

/// Everything there is to say about a [`Measure`].
pub(crate) struct Meaning {
    /// The name in the JSON file; it never changes.
    pub key: &'static str,
    /// The name in the table; one that is indented belongs to the figure above it.
    pub label: &'static str,
    pub unit: Unit,
    pub budget: Budget,
}

/// One line a figure: `Name: key, label, unit, budget;`.
macro_rules! measures {
    ($($measure:ident: $key:literal, $label:literal, $unit:ident, $budget:expr;)+) => {
        /// One figure that a workload can find.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Measure {
            $($measure,)+
        }

        impl Measure {
            /// Every figure, in the order of the table.
            const ALL: &[Measure] = &[$(Measure::$measure,)+];

            pub(crate) fn meaning(self) -> Meaning {
                match self {
                    $(Measure::$measure => Meaning { key: $key, label: $label, unit: $unit, budget: $budget },)+
                }
            }
        }
    };
}

measures! {
    IngestRate: "ingest.rows_per_s", "ingest, durable", RowsPerSecond, AtLeast(450_000.0);
    IngestBytesRate: "ingest.megabytes_per_s", "  line protocol", MegabytesPerSecond, NoneMoreIsBetter;
    IngestCpu: "ingest.cpu_s_per_million_rows", "  server CPU per million rows", Seconds, AtMost(1.8);
    IngestBatchP50: "ingest.batch_p50_ms", "  answer to a batch, p50", Milliseconds, NoneLessIsBetter;
    IngestBatchP99: "ingest.batch_p99_ms", "  answer to a batch, p99", Milliseconds, NoneLessIsBetter;
    PointP50: "point.p50_ms", "one durable point, p50", Milliseconds, AtMost(3.0);
    PointP99: "point.p99_ms", "one durable point, p99", Milliseconds, NoneLessIsBetter;
    DiskSync: "point.disk_sync_ms", "  the disk alone, append and fdatasync at best", Milliseconds, NoneLessIsBetter;
    DeriveP50: "derive.p50_ms", "point written to derived row queryable, p50", Milliseconds, AtMost(8.0);
    DeriveP99: "derive.p99_ms", "point written to derived row queryable, p99", Milliseconds, NoneLessIsBetter;
    WalkRate: "walk.rows_per_s", "rows walked by a data-write plugin", RowsPerSecond, AtLeast(300_000.0);
    WalkInPlugin: "walk.in_plugin_rows_per_s", "  of that, inside the plugin alone", RowsPerSecond, NoneMoreIsBetter;
    ArrowRate: "arrow.rows_per_s", "the same through to_arrow()", RowsPerSecond, AtLeast(2_000_000.0);
    ArrowHandOver: "arrow.hand_over_rows_per_s", "  until the plugin has the tables, alone", RowsPerSecond, NoneMoreIsBetter;
    ArrowInPlugin: "arrow.in_plugin_rows_per_s", "  what the plugin computes, alone", RowsPerSecond, NoneMoreIsBetter;
    ArrowBacklogRate: "arrow.backlog_rows_per_s", "  a backlog of all rows, longer than the tail", RowsPerSecond, NoneMoreIsBetter;
    RequestRate: "request.per_s", "request trigger, small JSON", RequestsPerSecond, AtLeast(35_000.0);
    RequestP50: "request.p50_ms", "  p50", Milliseconds, NoneLessIsBetter;
    RequestP99: "request.p99_ms", "  p99", Milliseconds, AtMost(0.8);
    RsgiRate: "granian_rsgi.per_s", "a raw RSGI application on Granian", RequestsPerSecond, NoneMoreIsBetter;
    RsgiP99: "granian_rsgi.p99_ms", "  p99", Milliseconds, NoneLessIsBetter;
    RsgiRatio: "request.times_granian_rsgi", "  request trigger, times that", Ratio, NoneMoreIsBetter;
    FastApiRate: "granian_fastapi.per_s", "a FastAPI application on Granian", RequestsPerSecond, NoneMoreIsBetter;
    FastApiP99: "granian_fastapi.p99_ms", "  p99", Milliseconds, NoneLessIsBetter;
    FastApiRatio: "request.times_granian_fastapi", "  request trigger, times that", Ratio, NoneMoreIsBetter;
    HandOver: "hand_over.ms", "query() of 100,000 rows x 21 columns as dicts", Milliseconds, AtMost(170.0);
    ParallelRatio: "parallel.ratio", "two CPU-bound triggers, at once against in turn", Ratio, AtLeast(1.9);
    QueryCount: "query.count_ms", "count(*)", Milliseconds, AtMost(3.0);
    QueryMeans: "query.means_ms", "mean of 5 columns", Milliseconds, AtMost(20.0);
    QueryHostHour: "query.host_hour_ms", "mean of 3 columns by host and hour", Milliseconds, AtMost(45.0);
    QueryOneHost: "query.one_host_ms", "one host, one hour, by minute", Milliseconds, AtMost(4.0);
    QueryLastPoints: "query.last_points_ms", "last point of every host", Milliseconds, NoneLessIsBetter;
    QueryThreshold: "query.threshold_ms", "one host above a threshold", Milliseconds, NoneLessIsBetter;
    StartEmpty: "start.empty_ms", "start until healthy, empty", Milliseconds, NoneLessIsBetter;
    StartAfterStop: "start.after_stop_ms", "start until healthy with the rows", Milliseconds, AtMost(300.0);
    CountAfterStop: "start.after_stop_counted_ms", "  until count(*) answers them", Milliseconds, NoneLessIsBetter;
    StartAfterKill: "start.after_kill_ms", "start until healthy after kill -9", Milliseconds, AtMost(1_000.0);
    CountAfterKill: "start.after_kill_counted_ms", "  until count(*) answers them", Milliseconds, NoneLessIsBetter;
    StopTime: "stop.ms", "SIGTERM until ended, with the rows", Milliseconds, NoneLessIsBetter;
    FilesBytes: "files.compacted_mb", "the rows in compacted files", Megabytes, AtMost(42.0);
    FilesOtherBytes: "files.beside_mb", "  log, manifest and catalog beside them", Megabytes, NoneLessIsBetter;
    FilesTime: "files.until_compacted_s", "  until they are in files and compacted", Seconds, NoneLessIsBetter;
    FilesStartAfterStop: "files.start_after_stop_ms", "start until healthy with them in files", Milliseconds, AtMost(300.0);
    FilesStartAfterKill: "files.start_after_kill_ms", "  after kill -9", Milliseconds, AtMost(1_000.0);
    FilesCount: "files.count_ms", "count(*), from files", Milliseconds, NoneLessIsBetter;
    FilesMeans: "files.means_ms", "mean of 5 columns, from files", Milliseconds, NoneLessIsBetter;
    FilesHostHour: "files.host_hour_ms", "mean of 3 columns by host and hour, from files", Milliseconds, NoneLessIsBetter;
    FilesOneHost: "files.one_host_ms", "one host, one hour, by minute, from files", Milliseconds, NoneLessIsBetter;
    FilesLastPoints: "files.last_points_ms", "last point of every host, from files", Milliseconds, NoneLessIsBetter;
    FilesThreshold: "files.threshold_ms", "one host above a threshold, from files", Milliseconds, NoneLessIsBetter;
    FilesQueryRatio: "files.query_ratio_max", "  the slowest of the six against in memory", Ratio, NoneLessIsBetter;
    ManyFilesStart: "many_files.start_ms", "start until healthy with 10,000 files", Milliseconds, AtMost(500.0);
    ManyFilesTime: "many_files.until_in_files_s", "  until 10,000 tables are in files", Seconds, NoneLessIsBetter;
    HistoryCold: "history.cold_ms", "one host, one hour of 30 days, just started", Milliseconds, AtMost(15.0);
    HistoryWarm: "history.warm_ms", "  asked again", Milliseconds, AtMost(5.0);
    CompactingRatio: "compacting.ingest_ratio", "ingest during compaction against without", Ratio, AtLeast(0.8);
    CompactingRate: "compacting.rows_per_s", "  during compaction", RowsPerSecond, NoneMoreIsBetter;
    NotCompactingRate: "compacting.without_rows_per_s", "  without", RowsPerSecond, NoneMoreIsBetter;
    ManyRowsPeak: "many_rows.peak_mib", "server's memory at most, 20 M rows ingested", Mebibytes, AtMost(1024.0);
    ManyRowsRate: "many_rows.rows_per_s", "  ingest, snapshots and compaction included", RowsPerSecond, NoneMoreIsBetter;
    StartTriggers: "triggers.start_s", "start until 100 request triggers answer", Seconds, AtMost(5.0);
    WorkerCrash: "crash.ms", "worker killed until its trigger answers", Milliseconds, AtMost(150.0);
    IdleServer: "idle.server_mib", "idle server, resident", Mebibytes, AtMost(35.0);
    IdleServerCpu: "idle.server_cpu_ms_per_minute", "idle server, CPU", MillisecondsPerMinute, NoneLessIsBetter;
    IdleTrigger: "idle.trigger_mib", "each idle trigger, proportional share", Mebibytes, AtMost(9.0);
    IdleTriggerCpu: "idle.trigger_cpu_ms_per_minute", "each idle trigger, CPU of server and worker", MillisecondsPerMinute, NoneLessIsBetter;
}

/// Every figure that has a budget, one a line: the end of `cargo xtask bench --help`.
pub(crate) fn budgets() -> String {
    let mut lines = vec!["Figures that have a budget, by their key in the JSON file:".to_owned()];
    for measure in Measure::ALL {
        let Meaning {
            key,
            label,
            unit,
            budget,
        } = measure.meaning();
        if !matches!(budget, NoneLessIsBetter | NoneMoreIsBetter) {
            lines.push(format!(
                "  {key:<30}  {:<20}  {}",
                budget.text(unit),
                label.trim()
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_key_is_given_twice() {
        let keys: BTreeSet<&str> = Measure::ALL.iter().map(|measure| measure.meaning().key).collect();
        assert_eq!(keys.len(), Measure::ALL.len());
    }

    #[test]
    fn the_help_names_the_budget_of_a_figure() {
        let line = budgets()
            .lines()
            .find(|line| line.contains("triggers.start_s"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(
            line.as_deref(),
            Some("triggers.start_s <= 5.00 s start until 100 request triggers answer")
        );
    }
}
