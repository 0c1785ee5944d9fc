//! The figures: their names, units, and the budget that each is held against.

use std::fmt::{self, Display};

/// One figure that a workload can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    IngestRate,
    IngestBytesRate,
    IngestCpu,
    IngestBatchP50,
    IngestBatchP99,
    PointP50,
    PointP99,
    DeriveP50,
    DeriveP99,
    WalkRate,
    WalkInPlugin,
    RequestRate,
    RequestP50,
    RequestP99,
    HandOver,
    ParallelRatio,
    QueryCount,
    QueryMeans,
    QueryHostHour,
    QueryOneHost,
    QueryLastPoints,
    QueryThreshold,
    StartEmpty,
    StartAfterStop,
    StartAfterKill,
    StopTime,
    IdleServer,
    IdleTrigger,
}

/// How a figure is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    RowsPerSecond,
    MegabytesPerSecond,
    RequestsPerSecond,
    Seconds,
    Milliseconds,
    Mebibytes,
    Ratio,
}

/// What a figure is held against: the budget of the design.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
    /// No figure was set; less is better.
    NoneLessIsBetter,
    /// No figure was set; more is better.
    NoneMoreIsBetter,
}

/// Everything there is to say about a [`Measure`].
pub(crate) struct Meaning {
    /// The name in the JSON file; it never changes.
    pub key: &'static str,
    pub label: &'static str,
    pub unit: Unit,
    pub budget: Budget,
}

impl Measure {
    pub(crate) fn meaning(self) -> Meaning {
        use Budget::{AtLeast, AtMost, NoneLessIsBetter, NoneMoreIsBetter};
        use Unit::{
            Mebibytes, MegabytesPerSecond, Milliseconds, Ratio, RequestsPerSecond, RowsPerSecond, Seconds,
        };
        let (key, label, unit, budget) = match self {
            Self::IngestRate => (
                "ingest.rows_per_s",
                "ingest, durable",
                RowsPerSecond,
                AtLeast(450_000.0),
            ),
            Self::IngestBytesRate => (
                "ingest.megabytes_per_s",
                "  line protocol",
                MegabytesPerSecond,
                NoneMoreIsBetter,
            ),
            Self::IngestCpu => (
                "ingest.cpu_s_per_million_rows",
                "  server CPU per million rows",
                Seconds,
                AtMost(1.8),
            ),
            Self::IngestBatchP50 => (
                "ingest.batch_p50_ms",
                "  answer to a batch, p50",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::IngestBatchP99 => (
                "ingest.batch_p99_ms",
                "  answer to a batch, p99",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::PointP50 => (
                "point.p50_ms",
                "one durable point, p50",
                Milliseconds,
                AtMost(3.0),
            ),
            Self::PointP99 => (
                "point.p99_ms",
                "one durable point, p99",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::DeriveP50 => (
                "derive.p50_ms",
                "point written to derived row queryable, p50",
                Milliseconds,
                AtMost(8.0),
            ),
            Self::DeriveP99 => (
                "derive.p99_ms",
                "point written to derived row queryable, p99",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::WalkRate => (
                "walk.rows_per_s",
                "rows walked by a data-write plugin",
                RowsPerSecond,
                AtLeast(300_000.0),
            ),
            Self::WalkInPlugin => (
                "walk.in_plugin_rows_per_s",
                "  of that, inside the plugin alone",
                RowsPerSecond,
                NoneMoreIsBetter,
            ),
            Self::RequestRate => (
                "request.per_s",
                "request trigger, small JSON",
                RequestsPerSecond,
                AtLeast(35_000.0),
            ),
            Self::RequestP50 => ("request.p50_ms", "  p50", Milliseconds, NoneLessIsBetter),
            Self::RequestP99 => ("request.p99_ms", "  p99", Milliseconds, AtMost(0.8)),
            Self::HandOver => (
                "hand_over.ms",
                "query() of 100,000 rows x 21 columns as dicts",
                Milliseconds,
                AtMost(170.0),
            ),
            Self::ParallelRatio => (
                "parallel.ratio",
                "two CPU-bound triggers, at once against in turn",
                Ratio,
                AtLeast(1.9),
            ),
            Self::QueryCount => ("query.count_ms", "count(*)", Milliseconds, AtMost(3.0)),
            Self::QueryMeans => ("query.means_ms", "mean of 5 columns", Milliseconds, AtMost(20.0)),
            Self::QueryHostHour => (
                "query.host_hour_ms",
                "mean of 3 columns by host and hour",
                Milliseconds,
                AtMost(45.0),
            ),
            Self::QueryOneHost => (
                "query.one_host_ms",
                "one host, one hour, by minute",
                Milliseconds,
                AtMost(4.0),
            ),
            Self::QueryLastPoints => (
                "query.last_points_ms",
                "last point of every host",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::QueryThreshold => (
                "query.threshold_ms",
                "one host above a threshold",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::StartEmpty => (
                "start.empty_ms",
                "start until healthy, empty",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::StartAfterStop => (
                "start.after_stop_ms",
                "start until healthy with the rows",
                Milliseconds,
                AtMost(300.0),
            ),
            Self::StartAfterKill => (
                "start.after_kill_ms",
                "  the same after kill -9",
                Milliseconds,
                AtMost(1_000.0),
            ),
            Self::StopTime => (
                "stop.ms",
                "SIGTERM until ended, with the rows",
                Milliseconds,
                NoneLessIsBetter,
            ),
            Self::IdleServer => (
                "idle.server_mib",
                "idle server, resident",
                Mebibytes,
                AtMost(35.0),
            ),
            Self::IdleTrigger => (
                "idle.trigger_mib",
                "each idle trigger, proportional share",
                Mebibytes,
                AtMost(9.0),
            ),
        };
        Meaning {
            key,
            label,
            unit,
            budget,
        }
    }
}

impl Budget {
    /// Whether `value` keeps to the budget; `None` where there is none.
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Budget::AtLeast(bound) => Some(value >= bound),
            Budget::AtMost(bound) => Some(value <= bound),
            Budget::NoneLessIsBetter | Budget::NoneMoreIsBetter => None,
        }
    }

    /// How many times better `value` is than `other`; below 1 it is worse.
    pub(crate) fn times_better(self, value: f64, other: f64) -> f64 {
        match self {
            Budget::AtLeast(_) | Budget::NoneMoreIsBetter => value / other,
            Budget::AtMost(_) | Budget::NoneLessIsBetter => other / value,
        }
    }

    /// The bound with its unit, empty where there is none.
    pub(crate) fn text(self, unit: Unit) -> String {
        match self {
            Budget::AtLeast(bound) => format!(">= {}", unit.text(bound)),
            Budget::AtMost(bound) => format!("<= {}", unit.text(bound)),
            Budget::NoneLessIsBetter | Budget::NoneMoreIsBetter => String::new(),
        }
    }
}

impl Unit {
    /// A value with as many digits as are worth reading.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Unit::RowsPerSecond | Unit::RequestsPerSecond => format!("{} {self}", grouped(value)),
            Unit::Ratio => format!("{value:.2}{self}"),
            _ if value < 10.0 => format!("{value:.2} {self}"),
            _ if value < 100.0 => format!("{value:.1} {self}"),
            _ => format!("{} {self}", grouped(value)),
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::RowsPerSecond => "rows/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::RequestsPerSecond => "req/s",
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Mebibytes => "MiB",
            Unit::Ratio => "x",
        })
    }
}

/// `1234567.8` as `1,234,568`.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_readable() {
        assert_eq!(Unit::RowsPerSecond.text(1_234_567.8), "1,234,568 rows/s");
        assert_eq!(Unit::Milliseconds.text(1.234), "1.23 ms");
        assert_eq!(Unit::Milliseconds.text(1_000.0), "1,000 ms");
        assert_eq!(Unit::Ratio.text(1.9), "1.90x");
        assert_eq!(grouped(999.0), "999");
    }

    #[test]
    fn better_is_above_one_for_both_directions() {
        assert!((Budget::AtLeast(1.0).times_better(200.0, 100.0) - 2.0).abs() < 1e-9);
        assert!((Budget::AtMost(1.0).times_better(100.0, 200.0) - 2.0).abs() < 1e-9);
    }
}
