//! The engine with a real catalog, log, store and query engine, and workers that are tasks.

mod crash_loops;
mod dead_letters;
mod exactly_once;
mod fake_clock;
mod fake_python;
mod lifecycle;
mod limits;
mod observations;
mod request_triggers;
mod schedules;
mod write_triggers;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, Limits, Strictness};
use tidemill_ingest::{Ingest, IngestConfig, SnapshotConfig, WriteRequest};
use tidemill_lineproto::Precision;
use tidemill_query::{Params, QueryConfig, QueryEngine};
use tidemill_store::{FileStoreConfig, Storage, StoreConfig};
use tidemill_triggers::RetryPolicy;
use tidemill_wal::{FileMedium, Medium, WalConfig};

use self::fake_clock::FakeClock;
use self::fake_python::{FakePython, SharedLauncher};
use crate::clock::{Clock, SystemClock};
use crate::engine::Machine;
use crate::{
    CreateTrigger, DeadLetters, Engine, EngineConfig, EngineTables, Observations, PluginRequest,
    PluginResponse, RequestError,
};

/// A server without HTTP and without Python.
struct Server {
    engine: Arc<Engine>,
    ingest: Arc<Ingest>,
    query: Arc<QueryEngine>,
    clock: Arc<dyn Clock>,
    objects: Arc<dyn ObjectStore>,
    dir: tempfile::TempDir,
}

fn config(dir: &Path) -> EngineConfig {
    let retry = RetryPolicy {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    EngineConfig {
        plugin_dir: Some(dir.join("plugins")),
        stop_grace: Duration::from_millis(200),
        retry,
        ..EngineConfig::default()
    }
}

/// No more of the log than its last segment is kept for triggers.
fn snapshot_config() -> SnapshotConfig {
    SnapshotConfig {
        backlog_bytes_max: 0,
        ..SnapshotConfig::default()
    }
}

fn new_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    fs::write(dir.path().join("plugins/plugin.py"), "").unwrap();
    dir
}

/// Opens the log; after a restart a copy of it, since what is left of the server before may still hold its files.
fn open_medium(dir: &Path) -> FileMedium {
    let logs = (0..).map(|start| dir.join(format!("wal-{start}")));
    let mut newest = None;
    for log in logs {
        if log.exists() {
            newest = Some(log);
            continue;
        }
        fs::create_dir(&log).unwrap();
        if let Some(newest) = newest {
            for segment in fs::read_dir(newest).unwrap().map(Result::unwrap) {
                if segment
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "wal")
                {
                    fs::copy(segment.path(), log.join(segment.file_name())).unwrap();
                }
            }
        }
        return FileMedium::open(log).unwrap();
    }
    unreachable!("numbers do not end")
}

impl Engine {
    /// Answers a `GET` request.
    async fn handle_request(
        &self,
        path: &str,
        request: PluginRequest,
    ) -> Result<PluginResponse, RequestError> {
        self.request_trigger(path, "GET")?.handle(request).await
    }
}

impl Server {
    async fn start(python: &Arc<FakePython>) -> Self {
        Self::start_with(python, |_| {}).await
    }

    async fn start_with(python: &Arc<FakePython>, change: impl FnOnce(&mut EngineConfig)) -> Self {
        Self::start_in(
            new_dir(),
            Arc::new(InMemory::new()),
            Arc::new(SystemClock),
            python,
            change,
        )
        .await
    }

    /// Starts a server by whose schedules go by another clock.
    async fn start_at(clock: &Arc<FakeClock>, python: &Arc<FakePython>) -> Self {
        let clock = Arc::clone(clock);
        Self::start_in(new_dir(), Arc::new(InMemory::new()), clock, python, |_| {}).await
    }

    /// Starts a server on a medium of its own.
    async fn start_on(python: &Arc<FakePython>, medium: impl FnOnce(&Path) -> Box<dyn Medium>) -> Self {
        let dir = new_dir();
        let medium = medium(dir.path());
        let (objects, clock) = (Arc::new(InMemory::new()), Arc::new(SystemClock));
        Self::start_in_on(dir, medium, objects, clock, python, |_| {}).await
    }

    async fn start_in(
        dir: tempfile::TempDir,
        objects: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        python: &Arc<FakePython>,
        change: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let medium = Box::new(open_medium(dir.path()));
        Self::start_in_on(dir, medium, objects, clock, python, change).await
    }

    async fn start_in_on(
        dir: tempfile::TempDir,
        medium: Box<dyn Medium>,
        objects: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        python: &Arc<FakePython>,
        change: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let catalog = Catalog::open(Arc::clone(&objects), "node0", Limits::default())
            .await
            .unwrap();
        let catalog = Arc::new(catalog);
        let ingest_config = IngestConfig {
            wal: WalConfig {
                segment_bytes_max: 4096,
                ..WalConfig::default()
            },
            tail_bytes_max: 1 << 20,
            snapshot: snapshot_config(),
        };
        let storage = Storage::open(
            StoreConfig::default(),
            FileStoreConfig::default(),
            Arc::clone(&objects),
            "node0",
        );
        let storage = Arc::new(storage.await.unwrap());
        let store = Arc::clone(storage.store());
        let ingest = Ingest::open(medium, ingest_config, Arc::clone(&catalog), storage).unwrap();
        let ingest = Arc::new(ingest);
        let observations = Arc::new(Observations::new(1_000));
        let mut config = config(dir.path());
        change(&mut config);
        let dead_letters = Arc::new(DeadLetters::new(Arc::clone(&objects), "node0"));
        dead_letters.load(&ingest).await.unwrap();
        let tables = EngineTables::new(
            Arc::clone(&ingest),
            Arc::clone(&observations),
            Arc::clone(&dead_letters),
            config.plugin_dir.clone(),
        );
        let query = Arc::new(QueryEngine::new(
            catalog,
            store,
            Arc::clone(ingest.storage().files()),
            vec![Arc::new(tables)],
            QueryConfig::default(),
        ));
        let launcher = Arc::new(SharedLauncher(Arc::clone(python)));
        let machine = Machine {
            launcher,
            clock: Arc::clone(&clock),
            packages: None,
        };
        let (to_ingest, to_query) = (Arc::clone(&ingest), Arc::clone(&query));
        let engine =
            Engine::start_with(config, to_ingest, to_query, observations, dead_letters, machine).await;
        Self {
            engine,
            ingest,
            query,
            clock,
            objects,
            dir,
        }
    }

    /// Stops the server in order and starts it again on the same files.
    async fn restart(self, python: &Arc<FakePython>) -> Self {
        self.engine.shutdown().await;
        self.ingest.shutdown().await;
        let Self {
            dir, objects, clock, ..
        } = self;
        Self::start_in(dir, objects, clock, python, |_| {}).await
    }

    /// Starts the server on what a crash would leave at this moment. What it was is stopped afterwards, on files of its own.
    async fn crash(self, python: &Arc<FakePython>, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let Self {
            engine,
            ingest,
            dir,
            objects,
            clock,
            ..
        } = self;
        let server = Self::start_in(dir, objects, clock, python, change).await;
        engine.shutdown().await;
        ingest.shutdown().await;
        server
    }

    async fn write(&self, database: &str, lines: &str) {
        self.write_at(database, lines, 1).await;
    }

    async fn write_at(&self, database: &str, lines: &str, received_ns: i64) {
        let request = WriteRequest {
            database: database.to_owned(),
            body: lines.to_owned().into(),
            precision: Precision::Nanosecond,
            accept_partial: false,
            no_sync: false,
            received_ns,
            name_rule: Strictness::Strict,
            depth: 0,
        };
        self.ingest.write(request).await.unwrap();
    }

    async fn create(&self, name: &str, spec: &str) {
        self.create_with(name, spec, |_| {}).await;
    }

    async fn create_with(&self, name: &str, spec: &str, change: impl FnOnce(&mut CreateTrigger)) {
        let mut request = trigger(name, spec);
        change(&mut request);
        self.engine.create_trigger(request).await.unwrap();
    }

    /// The rows of a query as text, cells joined by `|`.
    async fn query(&self, database: &str, sql: &str) -> Vec<String> {
        let output = self.query.sql(database, sql, Params::new()).await.unwrap();
        let batches: Vec<_> = output.batches.try_collect().await.unwrap();
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter();
                let cells =
                    cells.map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        rows
    }

    /// The log of the database's plugins as `LEVEL text`; durations are left out.
    async fn log(&self, database: &str) -> Vec<String> {
        let rows = self
            .query(
                database,
                "SELECT log_level, log_text FROM system.processing_engine_logs",
            )
            .await;
        rows.into_iter()
            .map(|row| {
                let row = row.replacen('|', " ", 1);
                let finished = row.find("finished execution in ");
                finished.map_or(row.clone(), |start| {
                    row[..start + "finished execution in".len()].to_owned()
                })
            })
            .collect()
    }

    /// Waits until the query has these rows.
    async fn expect_rows(&self, database: &str, sql: &str, expected: &[&str]) {
        let mut rows = Vec::new();
        for _ in 0..2_000 {
            rows = self.query(database, sql).await;
            if rows == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{sql}: expected {expected:?}, got {rows:?}");
    }

    /// Waits until the log of the database has a row that contains `text`.
    async fn expect_log(&self, database: &str, text: &str) {
        let mut log = Vec::new();
        for _ in 0..2_000 {
            log = self.log(database).await;
            if log.iter().any(|row| row.contains(text)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no '{text}' in the log: {log:#?}");
    }
}

fn trigger(name: &str, spec: &str) -> CreateTrigger {
    let json = serde_json::json!({
        "db": "db", "trigger_name": name, "plugin_filename": "plugin.py", "trigger_specification": spec, "disabled": false
    });
    serde_json::from_value(json).unwrap()
}
