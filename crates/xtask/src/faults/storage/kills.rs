//! `kill -9` at the moments in which files are written, by snapshots or by compaction, under load.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidemill_write_model::Writer;
use tokio::time::sleep;

use super::site::{DATABASE, Site};
use super::{Trial, check};
use crate::failure::Failure;
use crate::faults::finding::Finding;
use crate::random::Random;
use crate::statistics::percentile;
use crate::storage::{data_files, flags, parquet_paths, until_new_parquet};
use crate::waiting::wait_until;

const WRITERS: u32 = 4;
const BATCH_ROWS: u64 = 100;
/// Snapshots and compactions come several times a second; one that does not come by then never will.
const FILE_LIMIT: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// From a file's first sight until the kill, at most: some are hit in the middle, others between file and manifest.
const DELAY_MS_MAX: u32 = 30;
/// A server with the rows of this run in its log.
const RESTART_LIMIT: Duration = Duration::from_secs(10);
/// How often compaction of one backlog is killed before it may finish.
const KILLS_PER_BACKLOG: u32 = 6;
/// Small files that are there before compaction is let loose on them.
const BACKLOG_FILES: usize = 16;

/// Kills while snapshots write files; nothing is compacted.
pub(super) async fn in_snapshots(
    site: &mut Site,
    trial: &Trial<'_>,
    finding: &mut Finding,
) -> Result<(), Failure> {
    let arguments = [flags::small_buffer(), flags::no_compaction()].concat();
    let mut run = Run::start(site, trial, arguments.clone()).await?;
    let started = Instant::now();
    while started.elapsed() < trial.kill_for {
        run.kill_at_a_new_file(site, finding, &arguments).await?;
    }
    run.finish(site, finding).await
}

/// Kills while compaction writes files; snapshots do not run then, so that every new file is one of compaction's.
pub(super) async fn in_compactions(
    site: &mut Site,
    trial: &Trial<'_>,
    finding: &mut Finding,
) -> Result<(), Failure> {
    let many_files = [flags::small_buffer(), flags::no_compaction()].concat();
    let mut run = Run::start(site, trial, many_files.clone()).await?;
    let started = Instant::now();
    while started.elapsed() < trial.kill_for {
        run.make_backlog(site).await?;
        site.stop().await?;
        site.start(Vec::new()).await?;
        // Killed each time, compaction would never come to an end.
        for _ in 0..KILLS_PER_BACKLOG {
            if started.elapsed() >= trial.kill_for || !run.kill_at_a_new_file(site, finding, &[]).await? {
                break;
            }
        }
        site.stop().await?;
        site.start(many_files.clone()).await?;
    }
    run.finish(site, finding).await
}

/// A series of kills.
struct Run {
    writers: Vec<Writer>,
    random: Random,
    kills: u32,
    /// Kills after which a file was there that no manifest knew.
    left_files: u32,
    refused: u64,
    refusals: Vec<String>,
    answered_ms: Vec<f64>,
}

impl Run {
    async fn start(site: &mut Site, trial: &Trial<'_>, arguments: Vec<String>) -> Result<Self, Failure> {
        site.start(arguments).await?;
        site.make_table().await?;
        site.make_trigger().await?;
        Ok(Run {
            writers: (0..WRITERS).map(Writer::new).collect(),
            random: Random::from_seed(trial.seed),
            kills: 0,
            left_files: 0,
            refused: 0,
            refusals: Vec::new(),
            answered_ms: Vec::new(),
        })
    }

    /// Writes until there are many small files.
    async fn make_backlog(&mut self, site: &Site) -> Result<(), Failure> {
        let clients = site.write(std::mem::take(&mut self.writers), BATCH_ROWS)?;
        let mut api = site.api()?;
        let before = data_files(&mut api, DATABASE).await?.len();
        let are_there = wait_until(FILE_LIMIT, LOOK_PAUSE, async || {
            Ok(data_files(&mut api, DATABASE).await?.len() >= before + BACKLOG_FILES)
        })
        .await?;
        let account = clients.finish().await?;
        self.writers = account.writers;
        if are_there {
            return Ok(());
        }
        Err(Failure::new(format!(
            "there were not {BACKLOG_FILES} more files within {} s",
            FILE_LIMIT.as_secs()
        )))
    }

    /// Writes until a new file appears, kills the server at that moment or a little later, starts it again and compares what is
    /// there. False where no file appeared; then nothing was killed.
    async fn kill_at_a_new_file(
        &mut self,
        site: &mut Site,
        finding: &mut Finding,
        arguments: &[String],
    ) -> Result<bool, Failure> {
        let clients = site.write(std::mem::take(&mut self.writers), BATCH_ROWS)?;
        let folder = site.data_dir();
        let known = parquet_paths(&folder);
        let appeared = until_new_parquet(&folder, &known, FILE_LIMIT / 4).await?;
        if appeared {
            let delay_ms = self.random.below(DELAY_MS_MAX + 1);
            sleep(Duration::from_millis(u64::from(delay_ms))).await;
            site.kill().await?;
            self.kills += 1;
        }
        let account = clients.finish().await?;
        self.writers = account.writers;
        self.refused += account.refused;
        self.refusals.extend(account.refusals);
        self.answered_ms.extend(account.answered_ms);
        if appeared {
            site.start(arguments.to_vec()).await?;
            self.count_left_files(site).await?;
        }
        let mut api = site.api()?;
        check::settle(&mut api, finding, &mut self.writers).await?;
        let when = format!("after kill {}", self.kills);
        check::require_digests(&mut api, finding, &self.writers, &when).await?;
        Ok(appeared)
    }

    /// A file that no manifest names shows that the kill came between the two.
    async fn count_left_files(&mut self, site: &Site) -> Result<(), Failure> {
        let on_disk = parquet_paths(&site.data_dir());
        let known = data_files(&mut site.api()?, DATABASE).await?;
        let is_known = |path: &PathBuf| known.keys().any(|known| path.ends_with(known));
        self.left_files += u32::from(!on_disk.iter().all(is_known));
        Ok(())
    }

    async fn finish(mut self, site: &mut Site, finding: &mut Finding) -> Result<(), Failure> {
        finding.require(self.kills > 0, "no file was ever written");
        let mut api = site.api()?;
        check::settle(&mut api, finding, &mut self.writers).await?;
        check::require_derived(&mut api, finding, &self.writers).await?;
        // In order, and once more, so that no run is left that could derive something again.
        site.stop().await?;
        site.start(Vec::new()).await?;
        let mut api = site.api()?;
        check::require_derived(&mut api, finding, &self.writers).await?;
        check::require_points(&mut api, finding, &self.writers, "at the end").await?;
        finding.tell(format!(
            "{} kills, after {} of them a file lay there that no manifest names",
            self.kills, self.left_files
        ));
        finding.within(
            "healthy again, at the slowest,",
            site.slowest_start(),
            RESTART_LIMIT,
        );
        let points: u64 = self.writers.iter().map(Writer::points).sum();
        let rows: u64 = self.writers.iter().map(Writer::rows_written).sum();
        if finding.violations().is_empty() {
            finding.tell(format!(
                "after each, counts and checksums of what was acknowledged agree; at the end {points} points from {rows} rows, \
                 each with every value"
            ));
        }
        if !self.answered_ms.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut self.answered_ms, share));
            finding.tell(format!(
                "batches of {BATCH_ROWS} rows acknowledged in {p50:.1} ms (p50), {p99:.1} ms (p99)"
            ));
        }
        // There may be no room in memory while a snapshot is behind; anything else is no reason to refuse.
        let others: Vec<&String> = self
            .refusals
            .iter()
            .filter(|text| !text.starts_with("503"))
            .collect();
        finding.require(
            others.is_empty(),
            format!("writes were refused, for example {others:?}"),
        );
        if self.refused > 0 {
            finding.tell(format!("{} writes answered 503 and sent again", self.refused));
        }
        Ok(())
    }
}
