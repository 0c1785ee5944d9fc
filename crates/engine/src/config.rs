//! The limits of the engine and where its plugins are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_plugin_repo::PluginRepository;
use tidemill_triggers::{CatchUp, OUTPUT_LIMIT_MAX, PluginType, RetryPolicy};
use tidemill_worker::{PackageManager, PluginUser, SandboxProfile};
use tidemill_worker_proto::OUTPUT_BYTES_MAX;

use crate::plugin_logs::KEPT_BYTES_PER_SECOND;

// What triggers may set, workers can send.
const _: () = assert!(OUTPUT_LIMIT_MAX.0 == OUTPUT_BYTES_MAX);

/// Settings of the engine; the defaults are those of `serve`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where plugins are; without it no trigger can be created.
    pub plugin_dir: Option<PathBuf>,
    /// Where `gh:` plugins come from; there is one wherever there is a plugin directory.
    pub plugin_repository: Option<PluginRepository>,
    /// Types that may be created; empty for all.
    pub restrict_plugin_triggers_to: Vec<PluginType>,
    /// Runs of one asynchronous trigger that may be in flight.
    pub async_concurrency_max: usize,
    /// Requests to one trigger that may be waiting or running; beyond it the answer is 503.
    pub request_queue_max: usize,
    /// Bytes of bodies of the requests to one trigger that may be waiting or running, beyond those of a single one.
    pub request_queue_bytes_max: usize,
    /// Bytes that one run may give back: the lines that it writes and its answer. No more than
    /// [`OUTPUT_BYTES_MAX`](tidemill_worker_proto::OUTPUT_BYTES_MAX).
    pub output_bytes_max: u64,
    /// Bytes of a trigger's log that are kept across restarts, on average a second.
    pub log_bytes_per_second: u64,
    /// What becomes of missed instants of a schedule.
    pub catch_up: CatchUp,
    /// Longest duration of a data-write or scheduled run.
    pub run_timeout: Duration,
    /// Longest time from the arrival of a request to its answer.
    pub request_timeout: Duration,
    /// Longest time in which a plugin's module may be loaded.
    pub load_timeout: Duration,
    /// Time that a run gets to end after its deadline or after its trigger was stopped; then its process is killed.
    pub stop_grace: Duration,
    /// Resident memory above which a plugin's process is killed; `None` for half of what the machine has.
    pub worker_memory_bytes_max: Option<u64>,
    /// Rows after which a data-write run takes no further commit. As dictionaries they need some kilobytes each.
    pub run_rows_max: usize,
    /// Bytes after which a data-write run takes no further commit.
    pub run_bytes_max: usize,
    /// Rows that have come through so many triggers are not run any more: a loop is behind them.
    pub trigger_depth_max: u16,
    /// When failed runs of `retry` triggers and lost workers are tried again, and how often runs are attempted.
    pub retry: RetryPolicy,
    /// What packages are installed with.
    pub package_manager: PackageManager,
    /// Environment variables that plugins get although the server reads credentials from them (`--plugin-env`).
    pub passed_variables: Vec<String>,
    /// What is taken from plugins' processes (`--plugin-sandbox`).
    pub sandbox: SandboxProfile,
    /// Who plugins' processes run as (`--plugin-user`); `None` for the server's own user.
    pub plugin_user: Option<Arc<PluginUser>>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            plugin_dir: None,
            plugin_repository: None,
            restrict_plugin_triggers_to: Vec::new(),
            async_concurrency_max: 16,
            request_queue_max: 1024,
            request_queue_bytes_max: 64 * 1024 * 1024,
            output_bytes_max: OUTPUT_BYTES_MAX,
            log_bytes_per_second: KEPT_BYTES_PER_SECOND,
            catch_up: CatchUp::default(),
            run_timeout: Duration::from_mins(10),
            request_timeout: Duration::from_mins(1),
            load_timeout: Duration::from_mins(2),
            stop_grace: Duration::from_secs(2),
            worker_memory_bytes_max: None,
            run_rows_max: 100_000,
            run_bytes_max: 64 * 1024 * 1024,
            trigger_depth_max: 16,
            retry: RetryPolicy {
                attempts_max: Some(20),
                ..RetryPolicy::default()
            },
            package_manager: PackageManager::default(),
            passed_variables: Vec::new(),
            sandbox: SandboxProfile::default(),
            plugin_user: None,
        }
    }
}
