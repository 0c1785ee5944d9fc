//! Settings of a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidemill_catalog::Limits;
use tidemill_engine::EngineConfig;
use tidemill_ingest::SnapshotConfig;
use tidemill_object_stores::ObjectStoreConfig;

/// What becomes of data that was deleted softly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionConfig {
    /// How long it is kept unless the request says otherwise.
    pub hard_delete_default: Duration,
    /// How long the catalog remembers what has no data any more.
    pub grace_period: Duration,
}

impl Default for DeletionConfig {
    /// 72 hours, and 24 more (`spec/database.md` 2.6, 4.7).
    fn default() -> Self {
        Self {
            hard_delete_default: Duration::from_hours(72),
            grace_period: Duration::from_hours(24),
        }
    }
}

/// Settings of a server; the command line fills them in.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Names this process in the store; all its paths begin with it.
    pub node_id: String,
    /// Where data is kept.
    pub object_store: ObjectStoreConfig,
    /// Address and port to listen on; port 0 takes a free one.
    pub http_bind: SocketAddr,
    /// Serve without authentication on an address that other machines reach.
    pub without_auth: bool,
    /// Cadence of log flushes; zero flushes as soon as a writer waits.
    pub wal_flush_interval: Duration,
    /// When the buffer becomes files, and how much of the log is kept.
    pub snapshot: SnapshotConfig,
    /// Largest request body in bytes, compressed and decompressed.
    pub request_bytes_max: usize,
    /// Written with the listening address once the server listens.
    pub tcp_listener_file: Option<PathBuf>,
    /// Where plugins lie; `None` turns the processing engine off.
    pub plugin_dir: Option<PathBuf>,
    /// How long lines of plugins' logs are kept.
    pub plugin_log_retention: Duration,
    /// Base URL of the repository that `gh:` plugins come from.
    pub plugin_repo: String,
    /// Virtual environment of the plugins, where it is not in the plugin directory.
    pub virtual_env: Option<PathBuf>,
    /// Name or number of the user that plugins run as, where it is not the server's own.
    pub plugin_user: Option<String>,
    /// What becomes of data that was deleted softly.
    pub deletion: DeletionConfig,
    /// Safety limits of the catalog.
    pub limits: Limits,
    /// Memory that all queries may use together, in bytes.
    pub query_memory_bytes_max: usize,
    /// Longest run time of a query.
    pub query_timeout: Duration,
    /// Settings of the processing engine; its plugin directory is taken from `plugin_dir`.
    pub engine: EngineConfig,
    /// How long open connections get when the server stops.
    pub shutdown_timeout: Duration,
}
