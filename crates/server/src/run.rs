//! The life of a server: everything starts in the order in which it depends on one another, and stops in reverse.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use object_store::ObjectStore;
use tidemill_backup::{BackupError, check_restored};
use tidemill_catalog::{Catalog, CatalogError};
use tidemill_engine::{DeadLetters, Engine, EngineConfig, EngineTables, Journals, Observations};
use tidemill_ingest::{Ingest, IngestConfig, OpenError, Snapshotter, WriteError};
use tidemill_object_stores::{LeaseError, LeaseLost, OpenError as StoreError, open};
use tidemill_plugin_repo::{PluginRepository, RepositoryConfig, RepositoryError};
use tidemill_query::{QueryConfig, QueryEngine, SystemTables};
use tidemill_store::compaction::BackgroundCompaction;
use tidemill_store::{FileStoreConfig, Storage, StorageError, StoreConfig};
use tidemill_wal::{FileMedium, Medium, ObjectMedium, WalConfig, WalError};
use tidemill_worker::{
    Need, PluginUser, PluginUserError, PythonConfig, PythonEnvironment, SandboxProfile, extension_path,
    worker_sandbox,
};
use tokio::net::TcpListener;
use tracing::{info, warn};
use uuid::Uuid;

use crate::access;
use crate::body::BodyLimits;
use crate::config::ServerConfig;
use crate::connections::{self, ConnectionLimits};
use crate::hard_deletion::HardDeletion;
use crate::lease::HeldLease;
use crate::metrics::ServerMetrics;
use crate::routes::router;
use crate::state::{AppState, now_ns};
use crate::stop_signal::stop_signal;
use crate::system::{CompactionTables, NodeInfo, NodeTables, StorageTables};

/// Recent commits kept decoded for triggers, in bytes, and as a part of the memory of the buffer.
const TAIL_BYTES_MAX: usize = 64 << 20;
const TAIL_OF_BUFFER: usize = 16;
/// Request bodies in memory at once, in bytes.
const BODIES_BYTES_MAX: usize = 256 << 20;
/// When it stops, the server makes a snapshot if the next start would replay more than this: reading as much again takes
/// longer than to be noticed.
const LAST_SNAPSHOT_LOG_BYTES_MIN: u64 = 16 << 20;
/// How long that may take.
const LAST_SNAPSHOT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Log lines of plugins that live in memory only, for each database.
const PLUGIN_LOG_ENTRIES_MAX: usize = 10_000;

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Anyone who reaches the address could do everything.
    #[error(
        "refusing to listen on {bind}: other machines can reach it and this version has no authentication yet; \
         listen on this machine only (--http-bind 127.0.0.1:{}) or accept that with --without-auth",
        bind.port()
    )]
    OpenWithoutAuth {
        /// The address asked for.
        bind: SocketAddr,
    },
    /// The directory or the client of the object store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another server has this node id, or that cannot be found out.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Another server has taken this node id over.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// Another server writes to the list of files of this node id.
    #[error(
        "node id '{node_id}' was taken over by another server, which has changed the list of files: this server must not \
         go on; stop one of them, or give it another --node-id"
    )]
    Overtaken {
        /// The name that both have.
        node_id: String,
    },
    /// Another server works in the data directory.
    #[error(
        "node id '{node_id}' is in use: {} serves it from {}; \
         stop that server, or start this one with another --node-id",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")), data_dir.display()
    )]
    NodeInUse {
        /// The name that both want.
        node_id: String,
        /// The directory that both want.
        data_dir: PathBuf,
        /// Number of the process that has it, where that is known.
        holder: Option<u32>,
    },
    /// The log takes no record.
    #[error("cannot write to the log: {0}")]
    Claim(#[source] WriteError),
    /// The object store cannot be used.
    #[error("cannot use the object store: {0}")]
    ObjectStore(#[from] object_store::Error),
    /// The node is an unfinished restore.
    #[error(transparent)]
    Restore(#[from] BackupError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The list of files cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system refuses a thread; raise its limits.
    #[error("cannot start the thread of compaction: {0}")]
    Thread(#[source] io::Error),
    /// `--plugin-repo` is no repository.
    #[error(transparent)]
    PluginRepository(#[from] RepositoryError),
    /// Plugins cannot run as the user that they are to run as.
    #[error(transparent)]
    PluginUser(#[from] PluginUserError),
    /// The address cannot be listened on.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A file that the operator asked for cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    ListenerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The operating system refused something that every server needs.
    #[error("cannot {action}: {source}")]
    System {
        /// What was refused.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl From<WalError> for ServeError {
    fn from(error: WalError) -> Self {
        Self::Log(error.into())
    }
}

/// Serves until SIGTERM or SIGINT, then drains connections, stops plugins and flushes the log.
pub async fn run(config: ServerConfig) -> Result<(), ServeError> {
    let started = Instant::now();
    access::check_bind_address(config.http_bind, config.without_auth)?;
    let plugin_user = find_plugin_user(&config)?;
    let process_id = Uuid::new_v4();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node_id = %config.node_id,
        process_id = %process_id,
        cores = std::thread::available_parallelism().map_or(1, usize::from),
        "tidemill starting"
    );
    if config.without_auth {
        warn!("started without authentication: whoever reaches the port can do everything");
    }

    let opened = open(&config.object_store)?;
    let object_store = Arc::clone(&opened.objects);
    let lease = if config.object_store.is_remote() {
        Some(HeldLease::take(&opened, &config.node_id).await?)
    } else {
        // The log is a locked directory, or in the memory of this process.
        None
    };
    check_restored(&object_store, &config.node_id).await?;
    // It locks the directory, and so comes before all that writes: what opens the catalog and the manifest writes to them.
    let medium = open_medium(&config, &object_store).await?;
    let catalog = Catalog::open(Arc::clone(&object_store), &config.node_id, config.limits.clone()).await?;
    let catalog = Arc::new(catalog);
    let storage = Storage::open(
        StoreConfig::default(),
        FileStoreConfig::default(),
        Arc::clone(&object_store),
        &config.node_id,
    );
    let storage = Arc::new(storage.await?);
    let ingest = open_ingest(&config, medium, &catalog, Arc::clone(&storage)).await?;
    if lease.is_some() {
        // A process that was suspended and does not know that it lost the lease fails at its next record.
        ingest.claim().await.map_err(ServeError::Claim)?;
    }
    let snapshotter = Snapshotter::start(Arc::clone(&ingest));
    let _hard_deletion = HardDeletion::start(
        Arc::clone(&catalog),
        Arc::clone(ingest.storage()),
        config.deletion.grace_period,
    );
    let compaction = BackgroundCompaction::start(storage, Arc::clone(&catalog), config.compaction.clone())
        .map_err(ServeError::Thread)?;

    let observations = Arc::new(Observations::new(PLUGIN_LOG_ENTRIES_MAX));
    let journals = Journals::start(
        &object_store,
        &config.node_id,
        config.plugin_log_retention,
        &catalog,
        &observations,
    );
    let dead_letters = Arc::new(DeadLetters::new(object_store, &config.node_id));
    dead_letters.load(&ingest).await?;
    let engine_tables = EngineTables::new(
        Arc::clone(&ingest),
        Arc::clone(&observations),
        Arc::clone(&dead_letters),
        config.plugin_dir.clone(),
    );
    let query_config = QueryConfig {
        memory_bytes_max: config.query_memory_bytes_max,
        timeout: config.query_timeout,
        ..QueryConfig::default()
    };
    let store = Arc::clone(ingest.store());
    let system_tables: Vec<Arc<dyn SystemTables>> = vec![
        Arc::new(engine_tables),
        Arc::new(StorageTables::new(Arc::clone(&catalog), Arc::clone(&ingest))),
        Arc::new(NodeTables::new(node_info(&config, process_id))),
        Arc::new(CompactionTables::new(
            Arc::clone(&catalog),
            Arc::clone(compaction.compactor()),
        )),
    ];
    let query = Arc::new(QueryEngine::new(
        Arc::clone(&catalog),
        store,
        Arc::clone(ingest.storage().files()),
        system_tables,
        query_config,
    ));
    let python = config.plugin_dir.clone().map(|plugin_dir| {
        PythonEnvironment::start(PythonConfig {
            plugin_dir,
            virtual_env_location: config.virtual_env.clone(),
            package_manager: config.engine.package_manager,
            user: plugin_user.clone(),
        })
    });
    let engine_config = EngineConfig {
        plugin_dir: config.plugin_dir.clone(),
        plugin_repository: open_plugin_repository(&config).await?,
        sandbox: plugin_sandbox(&config),
        plugin_user,
        ..config.engine.clone()
    };
    let engine = Engine::start(
        engine_config,
        Arc::clone(&ingest),
        Arc::clone(&query),
        observations,
        dead_letters,
        python,
    )
    .await;

    let cluster_uuid = HeaderValue::from_str(&catalog.uuid().to_string()).expect("a UUID is visible ASCII");
    let state = Arc::new(AppState {
        catalog,
        ingest: Arc::clone(&ingest),
        query,
        engine: Arc::clone(&engine),
        compactor: Arc::clone(compaction.compactor()),
        metrics: ServerMetrics::new(),
        hard_delete_default: config.deletion.hard_delete_default,
        object_store: opened.metrics,
        bodies: BodyLimits::new(config.request_bytes_max, BODIES_BYTES_MAX),
        process_id,
        cluster_uuid,
    });

    let bind_failed = |source| ServeError::Bind {
        bind: config.http_bind,
        source,
    };
    let listener = TcpListener::bind(config.http_bind).await.map_err(bind_failed)?;
    let address = listener.local_addr().map_err(bind_failed)?;
    if let Some(path) = &config.tcp_listener_file {
        let failed = |source| ServeError::ListenerFile {
            path: path.clone(),
            source,
        };
        write_atomically(path, &address.to_string()).map_err(failed)?;
    }
    info!(
        address = %address,
        object_store = %config.object_store,
        plugin_dir = ?config.plugin_dir,
        startup_ms = started.elapsed().as_millis(),
        "ready"
    );

    let overtaken = ingest.storage().is_overtaken();
    let lost_lease = lease.as_ref().map(|lease| ("lost lease", lease.is_lost()));
    let fences = lost_lease
        .into_iter()
        .chain([("another server with this node id", overtaken.clone())]);
    connections::serve(
        listener,
        router(state),
        ConnectionLimits::of_this_process(),
        stop_signal(fences.collect()).map_err(|source| ServeError::System {
            action: "handle signals",
            source,
        })?,
        config.shutdown_timeout,
    )
    .await;
    info!("stopping plugins");
    engine.shutdown().await;
    // What lies in the store is another server's then: nothing is written there any more.
    let is_overtaken = lease.as_ref().is_some_and(|lease| *lease.is_lost().borrow());
    if !is_overtaken {
        journals.shutdown().await;
    }
    snapshotter.shutdown().await;
    compaction.stop().await;
    info!("flushing the log");
    if !is_overtaken && ingest.log_bytes_since_snapshot() >= LAST_SNAPSHOT_LOG_BYTES_MIN {
        // Whatever becomes of it, the log has everything.
        let snapshot = ingest.snapshot_now(now_ns());
        if tokio::time::timeout(LAST_SNAPSHOT_WAIT_MAX, snapshot)
            .await
            .is_err()
        {
            warn!("the last snapshot takes too long, the next start will replay the log");
        }
    }
    ingest.shutdown().await;
    if let Some(lease) = lease {
        lease.give_back().await?;
    }
    if *overtaken.borrow() {
        return Err(ServeError::Overtaken {
            node_id: config.node_id,
        });
    }
    info!("stopped");
    Ok(())
}

/// What the server shows of itself; its settings hold no secrets.
fn node_info(config: &ServerConfig, process_id: Uuid) -> NodeInfo {
    let settings = serde_json::json!({
        "node-id": config.node_id,
        "object-store": config.object_store.to_string(),
        "http-bind": config.http_bind.to_string(),
        "plugin-dir": config.plugin_dir.as_deref().map(|dir| dir.display().to_string()),
    });
    NodeInfo {
        node_id: config.node_id.clone(),
        instance_id: process_id.to_string(),
        core_count: std::thread::available_parallelism().map_or(1, usize::from) as u64,
        started_ns: now_ns(),
        settings: settings.to_string(),
    }
}

/// The user that plugins run as, who has access to what they need. What concerns the virtual environment is reported where that
/// is looked for.
fn find_plugin_user(config: &ServerConfig) -> Result<Option<Arc<PluginUser>>, PluginUserError> {
    let Some(user) = config.plugin_user.as_deref() else {
        return Ok(None);
    };
    let user = PluginUser::find(user)?;
    if let Some(plugin_dir) = &config.plugin_dir {
        let plugin_dir = std::path::absolute(plugin_dir).unwrap_or_else(|_| plugin_dir.clone());
        let mut needs = vec![(plugin_dir, Need::Enter)];
        // That there is none is reported where it is loaded.
        needs.extend(extension_path().ok().map(|extension| (extension, Need::Read)));
        user.check(&needs).map_err(PluginUserError::from)?;
    }
    info!(
        user = user.name(),
        uid = user.uid(),
        "plugins run as a user of their own"
    );
    Ok(Some(Arc::new(user)))
}

/// Hides the data from plugins, unless that would take a directory from them that they need.
fn plugin_sandbox(config: &ServerConfig) -> SandboxProfile {
    let data_dir = config.object_store.data_dir();
    let needed = [
        config.plugin_dir.clone(),
        config.virtual_env.clone(),
        Some(std::env::temp_dir()),
    ];
    let level = config.engine.sandbox.level;
    let (profile, exposed) = worker_sandbox(level, data_dir, needed.into_iter().flatten());
    if let Some(exposed) = exposed
        && config.plugin_dir.is_some()
    {
        warn!("{exposed}");
    }
    profile
}

/// The repository of `gh:` plugins. Its cache lies in the plugin directory, which plugins can read whatever is hidden
/// from them.
async fn open_plugin_repository(config: &ServerConfig) -> Result<Option<PluginRepository>, ServeError> {
    let Some(plugin_dir) = &config.plugin_dir else {
        return Ok(None);
    };
    let (url, cache_dir) = (config.plugin_repo.clone(), plugin_dir.join(".repository"));
    let open = move || PluginRepository::new(&url, &cache_dir, RepositoryConfig::default());
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => Ok(Some(opened?)),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The place of the log. That on files belongs to this process from now on.
async fn open_medium(
    config: &ServerConfig,
    object_store: &Arc<dyn ObjectStore>,
) -> Result<Box<dyn Medium>, ServeError> {
    let node_id = config.node_id.clone();
    let Some(data_dir) = config.object_store.data_dir().map(Path::to_owned) else {
        let runtime = tokio::runtime::Handle::current();
        let prefix = format!("{node_id}/wal");
        return Ok(Box::new(ObjectMedium::new(
            Arc::clone(object_store),
            &prefix,
            runtime,
        )));
    };
    let open = move || match FileMedium::open(data_dir.join(&node_id).join("wal")) {
        Err(WalError::Locked { holder, .. }) => Err(ServeError::NodeInUse {
            node_id,
            data_dir,
            holder,
        }),
        opened => Ok(opened?),
    };
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(Box::new(
        opened.expect("opening the log neither panics nor is cancelled")?,
    ))
}

async fn open_ingest(
    config: &ServerConfig,
    medium: Box<dyn Medium>,
    catalog: &Arc<Catalog>,
    storage: Arc<Storage>,
) -> Result<Arc<Ingest>, ServeError> {
    let ingest_config = IngestConfig {
        wal: WalConfig {
            flush_interval: config.wal_flush_interval,
            ..WalConfig::default()
        },
        tail_bytes_max: TAIL_BYTES_MAX.min(config.snapshot.buffer_bytes_max / TAIL_OF_BUFFER),
        snapshot: config.snapshot.clone(),
    };
    let catalog = Arc::clone(catalog);
    let open = move || Ingest::open(medium, ingest_config, catalog, storage);
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(Arc::new(
        opened.expect("opening the log neither panics nor is cancelled")?,
    ))
}

/// Writes a small file so that a reader sees all of it or none.
fn write_atomically(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)
}
