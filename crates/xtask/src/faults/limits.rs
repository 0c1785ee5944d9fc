//! What the neighbours of a fault may notice of it, and no more.

use std::time::{Duration, Instant};

use super::bed::{Bed, DATABASE};
use super::finding::Finding;
use super::neighbours::{DERIVED, Observed, SOURCE, Series, WRITE_ROWS};
use crate::failure::Failure;
use crate::statistics::percentile;

/// Milliseconds; the machine is shared by server, plugins and load, so that the slowest are given much.
pub(super) const WRITE_P50_MS_MAX: f64 = 10.0;
pub(super) const WRITE_P99_MS_MAX: f64 = 50.0;
pub(super) const WRITE_MS_MAX: f64 = 1000.0;
pub(super) const QUERY_P99_MS_MAX: f64 = 200.0;
pub(super) const REQUEST_P99_MS_MAX: f64 = 200.0;
pub(super) const DERIVE_P99_MS_MAX: f64 = 500.0;
pub(super) const SERVER_GROWTH_MIB_MAX: f64 = 512.0;
/// By then the last row is derived.
const DERIVE_LIMIT: Duration = Duration::from_secs(10);

/// What the neighbours noticed, in the table's figures.
pub(super) struct Noticed {
    pub write_p50_ms: f64,
    pub write_p99_ms: f64,
    pub write_max_ms: f64,
    pub query_p99_ms: f64,
    pub request_p99_ms: f64,
    pub disk_p99_ms: f64,
    pub disk_max_ms: f64,
    pub rows: u64,
    /// From the time of a row until the healthy trigger's run had it.
    pub derive_p99_ms: f64,
    pub server_growth_mib: f64,
}

impl Noticed {
    /// Waits for the last derived row, and requires that every limit was kept.
    pub(super) async fn judge(
        bed: &mut Bed,
        fault: &str,
        observed: &Observed,
        finding: &mut Finding,
    ) -> Result<Self, Failure> {
        for (what, series) in [
            ("writes", &observed.writes),
            ("queries", &observed.queries),
            ("requests to the healthy trigger", &observed.requests),
        ] {
            require_answers(finding, what, series);
        }
        let rows = observed.writes.answered() as u64 * WRITE_ROWS;
        if observed.disk_ms.is_empty() {
            return Err(Failure::new("the disk was not watched"));
        }
        let delays_ms = require_derived(bed, fault, rows, finding).await?;
        let growth_bytes = observed
            .server_bytes_max
            .saturating_sub(observed.server_bytes_before);
        let mut disk_ms = observed.disk_ms.clone();
        let [disk_p99_ms, disk_max_ms] = [0.99, 1.0].map(|share| percentile(&mut disk_ms, share));
        let noticed = Noticed {
            write_p50_ms: observed.writes.milliseconds(0.5),
            write_p99_ms: observed.writes.milliseconds(0.99),
            write_max_ms: observed.writes.milliseconds(1.0),
            query_p99_ms: observed.queries.milliseconds(0.99),
            request_p99_ms: observed.requests.milliseconds(0.99),
            disk_p99_ms,
            disk_max_ms,
            rows,
            derive_p99_ms: delays_ms,
            server_growth_mib: growth_bytes as f64 / f64::from(1 << 20),
        };
        for (what, value, limit) in [
            ("p50 of writes", noticed.write_p50_ms, WRITE_P50_MS_MAX),
            // No server can answer a durable write sooner than its disk has it.
            (
                "p99 of writes",
                noticed.write_p99_ms,
                WRITE_P99_MS_MAX + disk_p99_ms,
            ),
            (
                "the slowest write",
                noticed.write_max_ms,
                WRITE_MS_MAX + disk_max_ms,
            ),
            ("p99 of queries", noticed.query_p99_ms, QUERY_P99_MS_MAX),
            (
                "p99 of requests to the healthy trigger",
                noticed.request_p99_ms,
                REQUEST_P99_MS_MAX,
            ),
            ("p99 of derived rows", noticed.derive_p99_ms, DERIVE_P99_MS_MAX),
        ] {
            finding.at_most(what, value, limit, "ms");
        }
        finding.at_most(
            "the server grew",
            noticed.server_growth_mib,
            SERVER_GROWTH_MIB_MAX,
            "MiB",
        );
        Ok(noticed)
    }
}

fn require_answers(finding: &mut Finding, what: &str, series: &Series) {
    finding.require(
        series.failures() == 0,
        format!(
            "{} of {} {what} failed: {}",
            series.failures(),
            series.failures() + series.answered(),
            series.errors().join("; ")
        ),
    );
}

/// Requires that every row was derived once; p99 of the delays in milliseconds.
async fn require_derived(
    bed: &mut Bed,
    fault: &str,
    rows: u64,
    finding: &mut Finding,
) -> Result<f64, Failure> {
    let counted = format!("SELECT count(*) AS n FROM {DERIVED} WHERE writer = '{fault}'");
    let asked = Instant::now();
    bed.until_number(&counted, rows, DERIVE_LIMIT).await?;
    let waited = asked.elapsed();
    let source = bed
        .number(&format!(
            "SELECT count(*) AS n FROM {SOURCE} WHERE writer = '{fault}'"
        ))
        .await?;
    finding.require(
        source == rows,
        format!("{rows} rows were acknowledged, {source} are there"),
    );
    let derived = bed
        .api
        .query_or_nothing(
            DATABASE,
            &format!("SELECT number, delay_ns FROM {DERIVED} WHERE writer = '{fault}'"),
        )
        .await?;
    let mut numbers: Vec<u64> = derived.iter().filter_map(|row| row["number"].as_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    finding.require(
        numbers.len() as u64 == rows && derived.len() as u64 == rows,
        format!(
            "of {rows} rows {} were derived, in {} rows, {:.1} s after the last was written",
            numbers.len(),
            derived.len(),
            waited.as_secs_f64()
        ),
    );
    let mut delays_ms: Vec<f64> = derived
        .iter()
        .filter_map(|row| Some(row["delay_ns"].as_f64()? / 1e6))
        .collect();
    if delays_ms.is_empty() {
        return Ok(f64::INFINITY);
    }
    Ok(percentile(&mut delays_ms, 0.99))
}

/// What was derived a second time later than its own fault was looked at.
pub(super) async fn require_nothing_doubled(bed: &mut Bed, finding: &mut Finding) -> Result<(), Failure> {
    let sql = format!(
        "SELECT count(*) AS n FROM (SELECT writer, number FROM {DERIVED} GROUP BY writer, number HAVING count(*) > 1)"
    );
    let doubled = bed.number(&sql).await?;
    finding.require(
        doubled == 0,
        format!("{doubled} rows had been derived twice when all was over"),
    );
    Ok(())
}
