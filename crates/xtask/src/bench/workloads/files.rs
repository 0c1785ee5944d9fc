//! The rows in compacted files: what they take on disk, how fast they are queried, and how fast a server starts with them.

use std::path::Path;
use std::time::Duration;

use super::queries::{self, QUERIES};
use super::{Findings, ingest, milliseconds};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::bench::writing::write_all;
use crate::failure::Failure;
use crate::storage::{bytes_in, flags, on_disk, until_compacted};
use crate::waiting::wait_until;

const DATABASE: &str = "bench";
const MEGABYTE: f64 = 1e6;
const COMPACTED_LIMIT: Duration = Duration::from_mins(2);
/// What was merged is removed by then.
const REMOVED_LIMIT: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The rows that the budget of their size is for.
const BUDGET_ROWS: u32 = 1_000_000;

/// What the six queries are called when they read files, in their order.
const MEASURES: [Measure; QUERIES] = [
    Measure::FilesCount,
    Measure::FilesMeans,
    Measure::FilesHostHour,
    Measure::FilesOneHost,
    Measure::FilesLastPoints,
    Measure::FilesThreshold,
];

/// One life of the same rows: in memory, in files, and found again by a server that starts.
pub(super) async fn measure(program: &Path, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let own = OwnServer::start(program).await?;
    own.api().create_database(DATABASE).await?;
    let load = options.load().render(ingest::TABLE);
    write_all(own.server.endpoint(), DATABASE, load).await?;
    let in_memory_ms = queries::medians_ms(&mut own.api(), DATABASE, options).await?;

    let own = own.restart_with(flags::eager_snapshots()).await?;
    let rows = u64::from(options.rows);
    let mut api = own.api();
    let (took, files) = until_compacted(&mut api, own.server.pid()?, DATABASE, rows, COMPACTED_LIMIT).await?;
    findings.add(Measure::FilesTime, took.as_secs_f64());
    let listed_bytes = bytes_in(&files);
    // Files that were merged go a little later than they leave the list.
    let mut disk = on_disk(&own.setup.data_dir())?;
    wait_until(REMOVED_LIMIT, LOOK_PAUSE, async || {
        disk = on_disk(&own.setup.data_dir())?;
        Ok(disk.data_bytes <= listed_bytes)
    })
    .await?;
    findings.add(Measure::FilesBytes, disk.data_bytes as f64 / MEGABYTE);
    findings.add(Measure::FilesOtherBytes, disk.other_bytes as f64 / MEGABYTE);
    if disk.data_bytes != listed_bytes {
        findings.note(format!(
            "system.parquet_files lists {:.1} MB, on disk are {:.1} MB of Parquet",
            listed_bytes as f64 / MEGABYTE,
            disk.data_bytes as f64 / MEGABYTE
        ));
    }
    findings.note(format!("the rows are in {} files once compacted", files.len()));
    if options.rows != BUDGET_ROWS {
        findings.note(format!(
            "the budget of the files' size is for {BUDGET_ROWS} rows, there are {rows}"
        ));
    }

    // As a server usually runs.
    let own = own.restart_with(Vec::new()).await?;
    let mut api = own.api();
    queries::check_answers(&mut api, DATABASE, options).await?;
    let from_files_ms = queries::medians_ms(&mut api, DATABASE, options).await?;
    let ratios = from_files_ms
        .iter()
        .zip(in_memory_ms)
        .map(|(files, memory)| files / memory);
    findings.add(Measure::FilesQueryRatio, ratios.fold(0.0, f64::max));
    for (measure, took_ms) in MEASURES.into_iter().zip(from_files_ms) {
        findings.add(measure, took_ms);
    }

    let (_, own) = own.restart_after_stop().await?;
    let after_stop = own.server.time_to_healthy();
    findings.add(Measure::FilesStartAfterStop, milliseconds(after_stop));
    queries::check_answers(&mut own.api(), DATABASE, options).await?;
    let own = own.restart_after_kill().await?;
    let after_kill = own.server.time_to_healthy();
    findings.add(Measure::FilesStartAfterKill, milliseconds(after_kill));
    queries::check_answers(&mut own.api(), DATABASE, options).await?;
    own.server.stop().await?;
    Ok(findings)
}
