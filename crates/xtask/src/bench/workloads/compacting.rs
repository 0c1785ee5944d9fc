//! Ingest while files are compacted, against ingest while none are.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::Findings;
use crate::bench::BenchOptions;
use crate::bench::load::STEP_S;
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::bench::writing::write_rounds;
use crate::failure::Failure;
use crate::process_info::cpu_seconds_of_tree;
use crate::storage::{data_files, flags, rows_in, until_in_files};

const BACKLOG: &str = "backlog";
const WITHOUT: &str = "without";
const DURING: &str = "during";
const TABLE: &str = "cpu";
/// Each makes files that overlap those of every other, so that all of them must be merged.
const BACKLOG_ROUNDS: usize = 6;
/// A round does not fit in it, so that it makes several files.
const BACKLOG_BUFFER: &str = "128MB";
/// Rounds of rows that are written while the clock runs.
const ROUNDS: usize = 3;
const IN_FILES_LIMIT: Duration = Duration::from_mins(1);
/// Compaction has begun by then, if it ever does.
const BEGIN_LIMIT: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// A server that nobody asks anything and that keeps more than this many cores busy is compacting.
const BUSY_CORES: f64 = 0.15;

pub(super) async fn measure(program: &Path, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let own = make_backlog(program, options).await?;
    let without = own.restart_with(flags::no_compaction()).await?;
    let rate_without = rate(&without, WITHOUT, options).await?;

    let during = without.restart_with(Vec::new()).await?;
    let files_before = data_files(&mut during.api(), BACKLOG).await?;
    until_busy(during.server.pid()?).await?;
    let rate_during = rate(&during, DURING, options).await?;
    let is_still_busy = until_busy(during.server.pid()?).await.is_ok();
    let files_after = data_files(&mut during.api(), BACKLOG).await?;
    if files_before == files_after && !is_still_busy {
        return Err(Failure::new(format!(
            "nothing was compacted while rows were written: {} files before and after",
            files_before.len()
        )));
    }
    if !is_still_busy {
        findings.note("the backlog was compacted before the last row was written");
    }
    findings.note(format!(
        "the backlog: {} rows, {} files before and {} after the rows were written",
        rows_in(&files_before),
        files_before.len(),
        files_after.len()
    ));
    findings.add(Measure::NotCompactingRate, rate_without);
    findings.add(Measure::CompactingRate, rate_during);
    findings.add(Measure::CompactingRatio, rate_during / rate_without);
    during.server.stop().await?;
    Ok(findings)
}

/// A server with files that overlap each other and that nobody has merged.
async fn make_backlog(program: &Path, options: &BenchOptions) -> Result<OwnServer, Failure> {
    let arguments = [
        flags::eager_snapshots(),
        flags::buffer_limit(BACKLOG_BUFFER),
        flags::no_compaction(),
    ]
    .concat();
    let own = OwnServer::start_with(program, arguments.clone()).await?;
    for database in [BACKLOG, WITHOUT, DURING] {
        own.api().create_database(database).await?;
    }
    // Between two rows of every host: each round is over the same time as the one before.
    let delay_s = (STEP_S / BACKLOG_ROUNDS as u64).max(1);
    let load = options.load().render(TABLE);
    let written = write_rounds(own.server.endpoint(), BACKLOG, load, BACKLOG_ROUNDS, delay_s).await?;
    // A server that stops writes to files what it has in memory, sooner than it would otherwise.
    let own = own.restart_with(arguments).await?;
    until_in_files(&mut own.api(), BACKLOG, written.rows as u64, IN_FILES_LIMIT).await?;
    Ok(own)
}

/// Rows a second.
async fn rate(own: &OwnServer, database: &str, options: &BenchOptions) -> Result<f64, Failure> {
    let load = options.load();
    let rendered = load.render(TABLE);
    let delay_s = load.duration_s();
    let written = write_rounds(own.server.endpoint(), database, rendered, ROUNDS, delay_s).await?;
    if written.refusals > 0 {
        return Err(Failure::new(format!(
            "{} batches were answered 503",
            written.refusals
        )));
    }
    Ok(written.rows as f64 / written.duration.as_secs_f64())
}

/// Waits until a server works although nobody asks anything of it.
async fn until_busy(pid: u32) -> Result<(), Failure> {
    let windows = BEGIN_LIMIT.as_millis() / LOOK_PAUSE.as_millis();
    let mut before_s = cpu_seconds_of_tree(pid);
    for _ in 0..windows {
        sleep(LOOK_PAUSE).await;
        let now_s = cpu_seconds_of_tree(pid);
        if now_s - before_s > BUSY_CORES * LOOK_PAUSE.as_secs_f64() {
            return Ok(());
        }
        before_s = now_s;
    }
    Err(Failure::new(format!(
        "compaction did not begin within {} s",
        BEGIN_LIMIT.as_secs()
    )))
}
