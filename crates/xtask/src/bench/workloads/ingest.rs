//! Durable batches over several connections.

use super::Findings;
use super::rest::{REST_CORES, cpu_seconds_at_rest};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::bench::writing::write_all;
use crate::failure::Failure;
use crate::statistics::percentile;

/// The table that queries read.
pub(super) const TABLE: &str = "cpu";

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    // A second run over the same rows would overwrite instead of add: other work than the first.
    let table = if subject.rows_written.is_none() {
        TABLE.to_owned()
    } else {
        subject.new_table(TABLE)
    };
    let load = options.load().render(&table);
    let (rows, megabytes) = (load.rows as f64, load.bytes() as f64 / 1e6);
    // A server that has just started may still be making its environment, and what it puts off until after its answers
    // counts as well.
    let cpu_before_s = cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    let mut written = write_all(subject.api.endpoint(), &subject.data, load).await?;
    written.require_no_refusal()?;
    let cpu_after_s = cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    subject.rows_written.get_or_insert(options.rows as usize);

    let mut findings = Findings::default();
    let seconds = written.duration.as_secs_f64();
    findings.add(Measure::IngestRate, rows / seconds);
    findings.add(Measure::IngestBytesRate, megabytes / seconds);
    findings.add(Measure::IngestBatchP50, percentile(&mut written.batch_ms, 0.50));
    findings.add(Measure::IngestBatchP99, percentile(&mut written.batch_ms, 0.99));
    match (cpu_before_s, cpu_after_s) {
        (Some(before), Some(after)) => findings.add(Measure::IngestCpu, (after - before) / rows * 1e6),
        _ => findings.note("the server's CPU time is unknown; --pid names its process"),
    }
    Ok(findings)
}

/// Writes the table that queries read, unless that was done.
pub(super) async fn ensure_written(subject: &mut Subject, options: &BenchOptions) -> Result<usize, Failure> {
    if let Some(rows) = subject.rows_written {
        return Ok(rows);
    }
    let load = options.load().render(TABLE);
    write_all(subject.api.endpoint(), &subject.data, load).await?;
    cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    subject.rows_written = Some(options.rows as usize);
    Ok(options.rows as usize)
}
