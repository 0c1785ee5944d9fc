//! Options of `serve` about the way from memory to files.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use tidemill_server::SnapshotConfig;
use tidemill_triggers::ByteSize;

use super::settings::parse_memory;
use crate::environment;

const HEADING: &str = "Memory and log";

/// When rows in memory become files, and how much of the log is kept.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// Memory for rows that are in no file yet; half of it has them written, all of it makes writers wait
    #[arg(long, alias = "force-snapshot-mem-size", env = environment::FORCE_SNAPSHOT_MEM_THRESHOLD, default_value = "50%", value_parser = parse_memory, value_name = "SIZE", help_heading = HEADING)]
    force_snapshot_mem_threshold: usize,

    /// Rows are written to files after so many intervals of the log, of a second each or of --wal-flush-interval if that is longer
    #[arg(long, alias = "wal-files-per-snapshot", env = environment::WAL_SNAPSHOT_SIZE, default_value = "600", value_parser = clap::value_parser!(u32).range(1..), value_name = "N", help_heading = HEADING)]
    wal_snapshot_size: u32,

    /// Files written at once [default: the number of processors]
    #[arg(long, env = environment::SNAPSHOT_CONCURRENCY_LIMIT, value_name = "N", help_heading = HEADING)]
    snapshot_concurrency_limit: Option<NonZeroUsize>,

    /// Segments of the log (with object stores: flushes) that are kept although their rows are in files
    #[arg(long, env = environment::SNAPSHOTTED_WAL_FILES_TO_KEEP, default_value = "0", value_name = "N", help_heading = HEADING)]
    snapshotted_wal_files_to_keep: usize,

    /// Bytes of the log that are kept for triggers that lag; beyond it they skip what is oldest, and say so
    #[arg(long, env = environment::TRIGGER_BACKLOG_LIMIT, default_value = "10GB", value_name = "SIZE", help_heading = HEADING)]
    trigger_backlog_limit: ByteSize,

    #[command(flatten)]
    without_effect: WithoutEffect,
}

/// Options of the reference that have nothing to set here; accepted for existing scripts.
#[derive(Debug, Args)]
struct WithoutEffect {
    #[arg(long, hide = true)]
    gen1_duration: Option<String>,
    #[arg(long, hide = true)]
    gen1_lookback_duration: Option<String>,
    #[arg(long, alias = "wal-max-buffered-writes", hide = true)]
    wal_max_write_buffer_size: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", hide = true)]
    wal_replay_fail_on_error: Option<String>,
    #[arg(long, hide = true)]
    wal_replay_concurrency_limit: Option<String>,
    #[arg(long, hide = true)]
    checkpoint_interval: Option<String>,
}

impl SnapshotArgs {
    /// The settings, given the cadence of the log.
    pub(super) fn config(self, wal_flush_interval: Duration) -> SnapshotConfig {
        let default = SnapshotConfig::default();
        let interval = wal_flush_interval.max(Duration::from_secs(1));
        let config = SnapshotConfig {
            age_max: interval.saturating_mul(self.wal_snapshot_size),
            concurrency: self
                .snapshot_concurrency_limit
                .map_or(default.concurrency, NonZeroUsize::get),
            backlog_bytes_max: self.trigger_backlog_limit.0,
            segments_kept: self.snapshotted_wal_files_to_keep,
            ..default
        };
        config.with_buffer_bytes_max(self.force_snapshot_mem_threshold)
    }
}
